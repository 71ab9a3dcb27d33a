"""The order of rows, and the micro-batches that each process runs."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from rewardkit.reward_models import micro_batches
from rewardkit.train.data.prompt_sharing import Prompts, SharingLimits, bundle_lengths, bundle_rows
from rewardkit.train.distributed.collectives import rank, size

T = TypeVar("T")

__all__ = [
    "Order",
    "PackedRows",
    "first_fit",
    "lines_of",
    "micro_batches",
    "own_micro_batches",
    "packed_inputs",
    "packed_micro_batches",
    "share_rows",
]

LONGEST_LINE = 8192
"""Longer sequences are padded, unless all make one line: their mask would take more memory than the padding."""
WINDOW = 256
"""The number of rows that are packed at once, so that the time to pack grows linearly with the number of rows."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The sequences of the rows of a batch that is packed: several sequences share a line of the model's input."""

    sequences: Sequence[Sequence[int]]
    """The number of tokens of each sequence of each row, in the order in which the model gets them."""
    one_line: bool
    """Whether all sequences of a micro-batch make one line. Otherwise no line is longer than the longest sequence."""
    sharing: tuple[Prompts, SharingLimits] | None = None
    """Set if rows with the same prompt are computed as one sequence. Each row is then one sequence."""


def own_micro_batches(
    lengths: Sequence[int], most_tokens: int, packed: PackedRows | None = None
) -> tuple[list[list[int]], int]:
    """Split this process's share of a batch into micro-batches.

    Args:
        lengths: The number of tokens of each row of the whole batch.
        most_tokens: The largest number of tokens of a micro-batch, padding included.
        packed: The sequences of each row, if they are packed; otherwise they are padded.

    Returns:
        The rows of each micro-batch, and how many micro-batches fewer this process has than the process with the most.
    """
    if packed is not None and packed.sharing is not None:
        prompts, limits = packed.sharing
        bundles = bundle_rows(lengths, prompts, replace(limits, longest=min(limits.longest, most_tokens)))
        tokens = bundle_lengths(bundles, lengths, prompts)
        shared, idle = own_micro_batches(tokens, most_tokens, PackedRows([[count] for count in tokens], one_line=False))
        return [[row for index in part for row in bundles[index]] for part in shared], idle
    sizes = lengths if packed is None else [sum(row) for row in packed.sequences]
    cuts = []
    for rows in share_rows(sizes, size()):
        parts = micro_batches([lengths[row] for row in rows], most_tokens)
        if packed is not None:
            parts = _packed_parts([packed.sequences[row] for row in rows], most_tokens, packed.one_line, parts)
        cuts.append([[rows[index] for index in part] for part in parts])
    own = cuts[rank()]
    return own, max(map(len, cuts)) - len(own)


def _packed_parts(
    rows: Sequence[Sequence[int]], most_tokens: int, one_line: bool, padded: list[list[int]]
) -> list[list[int]]:
    """Return the micro-batches of packed rows; those of padded rows if they are not larger, as with many rows of all lengths."""
    if one_line:
        return packed_micro_batches([[sum(row)] for row in rows], most_tokens, one_line=True)
    if any(length > LONGEST_LINE for row in rows for length in row):
        return padded  # as ``lines_of`` does
    found = packed_micro_batches(rows, most_tokens)
    return found if _line_tokens(found, rows) < _line_tokens(padded, rows) else padded


def _line_tokens(parts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens of micro-batches, padding included, if each is packed by ``first_fit``."""
    total = 0
    for part in parts:
        lengths = [length for row in part for length in rows[row]]
        total += len(first_fit(lengths, max(lengths))) * max(lengths)
    return total


def share_rows(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Share rows out so that all processes have nearly the same number of tokens.

    Of the rows that are left, the process with the fewest tokens takes the longest.

    Args:
        lengths: The number of tokens of each row.
        processes: The number of processes.

    Returns:
        The rows of each process, the longest first.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    tokens = [(0, process) for process in range(processes)]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        count, process = tokens[0]
        shares[process].append(row)
        heapq.heapreplace(tokens, (count + lengths[row], process))
    return shares


def first_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Put each sequence into the first line that has room for it, or into a new line.

    Args:
        lengths: The number of tokens of each sequence.
        width: The number of tokens of a line.

    Returns:
        The indices of the sequences of each line.
    """
    lines: list[list[int]] = []
    room: list[int] = []
    for index, length in enumerate(lengths):
        place = _place(room, length, width)
        if place == len(lines):
            lines.append([])
        lines[place].append(index)
    return lines


def packed_micro_batches(rows: Sequence[Sequence[int]], most_tokens: int, *, one_line: bool = False) -> list[list[int]]:
    """Cut rows into micro-batches whose sequences, packed by ``first_fit`` into lines as long as the longest, fit a limit.

    Of the rows that are left, the one with the longest sequence opens a micro-batch. Then each row that still fits is added to it.

    Args:
        rows: The number of tokens of each sequence of each row. The sequences of a row stay in one micro-batch.
        most_tokens: The limit of lines × length. A row that is larger is a micro-batch of its own.
        one_line: Whether a micro-batch is one line, of at most ``most_tokens``.

    Returns:
        The indices of the rows of each micro-batch, in the order that ``first_fit`` needs.
    """
    order = sorted(range(len(rows)), key=lambda row: (-max(rows[row]), -sum(rows[row])))
    windows = -(-len(order) // WINDOW)
    return [part for window in range(windows) for part in _fill(order[window::windows], rows, most_tokens, one_line)]


def _fill(left: list[int], rows: Sequence[Sequence[int]], most_tokens: int, one_line: bool) -> list[list[int]]:
    """Cut some rows, those with the longest sequences first, into micro-batches."""
    batches: list[list[int]] = []
    while left:
        width = most_tokens if one_line else max(rows[left[0]])
        most_lines = max(most_tokens // width, 1)
        shortest = max(rows[left[-1]])  # every other row has a sequence that is at least as long
        room: list[int] = []
        batch: list[int] = []
        later: list[int] = []
        for place, row in enumerate(left):
            if len(room) >= most_lines and max(room) < shortest:
                later += left[place:]
                break
            changed = list(room)
            for length in rows[row]:
                _place(changed, length, width)
            if batch and len(changed) > most_lines:
                later.append(row)
            else:
                room = changed
                batch.append(row)
        batches.append(batch)
        left = later
    return batches


def _place(room: list[int], length: int, width: int) -> int:
    """Take room for a sequence from the first line that has enough, or from a new one, and return the line's index."""
    place = next((place for place, left in enumerate(room) if left >= length), len(room))
    if place == len(room):
        room.append(width)
    room[place] -= length
    return place


def lines_of(lengths: Sequence[int], *, one_line: bool) -> list[list[int]]:
    """Return which sequences share a line.

    Args:
        lengths: The number of tokens of each sequence.
        one_line: Whether all make one line.
    """
    if one_line:
        return [list(range(len(lengths)))]
    if max(lengths) > LONGEST_LINE:
        return [[index] for index in range(len(lengths))]
    return first_fit(lengths, max(lengths))


def packed_inputs(sequences: Sequence[Sequence[int]], lines: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the token ids and positions of lines of sequences.

    Args:
        sequences: The tokens of each sequence.
        lines: The indices of the sequences of each line.

    Returns:
        Ids and positions, int64, both of shape (lines, width). Padding at the end of a line counts as a sequence of its own.
    """
    width = max(sum(len(sequences[index]) for index in line) for line in lines)
    ids, positions = torch.zeros(2, len(lines), width, dtype=torch.long)
    for number, line in enumerate(lines):
        place = 0
        for index in line:
            end = place + len(sequences[index])
            ids[number, place:end] = torch.tensor(sequences[index])
            positions[number, place:end] = torch.arange(end - place)
            place = end
        positions[number, place:] = torch.arange(width - place)
    return ids, positions


class Order:
    """An endless order of rows, shuffled anew in each epoch by the seed alone. A position in it is one number."""

    def __init__(self, rows: int, seed: int, *, shuffle: bool = True) -> None:
        self.rows = rows
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._order: list[int] = []

    def take(self, position: int, count: int) -> Iterator[int]:
        """Yield ``count`` rows from a position."""
        for place in range(position, position + count):
            epoch, index = divmod(place, self.rows)
            if epoch != self._epoch:
                self._order = list(range(self.rows))
                if self.shuffle:
                    random.Random(f"{self.seed}/{epoch}").shuffle(self._order)  # noqa: S311 - no secrets here
                self._epoch = epoch
            yield self._order[index]
