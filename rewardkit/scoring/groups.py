"""Brings the rows of each group together, for rewards that compare the rollouts of one prompt.

The input is read twice: first to find where each group ends, then to hold rows back until their group is whole. The content of held
rows beyond the first 8 MB is in a temporary file. A held row costs less than 200 bytes of memory, including its group.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode import group_key, group_of_row, read_row
from rewardkit.scoring.formats.format import RawRow
from rewardkit.scoring.formats.readers import Chunk, Reader

MEMORY_BYTES = 8 << 20
"""Bytes of held rows that are kept in memory."""
_OVERHEAD_BYTES = 150
"""The memory of a row in Python beyond its content."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Where groups end."""

    numbers: dict[int, int]
    """The number of each group by its hash."""
    last: array[int]
    """The ordinal of the last row of each group, by its number."""
    interleaved: bool
    """True if rows of different groups are mixed, so that groups are scored in another order than the input's."""


def plan_groups(reader: Reader, columns: Columns) -> GroupPlan:
    """Read all input once and find the last row of each group."""
    numbers: dict[int, int] = {}
    last = array("q")
    interleaved = False
    previous = -1
    for chunk in reader.chunks():
        for raw, ordinal in zip(chunk.rows, chunk.ordinals, strict=True):
            key = _key(raw, columns)
            if key is None:
                continue
            number = numbers.setdefault(key, len(last))
            if number == len(last):
                last.append(ordinal)
            elif number != previous:
                interleaved = True
            last[number] = ordinal
            previous = number
    return GroupPlan(numbers, last, interleaved)


def gather(reader: Reader, columns: Columns, plan: GroupPlan, skip: int = 0) -> Iterator[Chunk]:
    """Yield chunks of whole groups, in the order in which groups become whole.

    Args:
        reader: The input.
        columns: How columns are renamed, which may determine the group.
        plan: What ``plan_groups`` returned for the same input.
        skip: The number of rows to leave out, in the order of this function.
    """
    with contextlib.closing(_HeldRows()) as held:
        ready: list[int] = []
        done = 0
        for complete, latest in _complete(reader, columns, plan, held):
            done += len(complete)
            # Chunks end where groups do, and so did those of an earlier run.
            if done <= skip:
                held.drop(complete)
                continue
            ready += complete
            if len(ready) >= reader.max_rows:
                yield held.take_chunk(ready, done, latest)
                ready = []
        if ready:
            yield held.take_chunk(ready, done, latest)


def _complete(reader: Reader, columns: Columns, plan: GroupPlan, held: _HeldRows) -> Iterator[tuple[list[int], Chunk]]:
    """Yield whole groups as slots of ``held``, each with the chunk that completed it; a row without a group is alone."""
    newest = array("i", [-1]) * len(plan.last)
    for chunk in reader.chunks():
        for index, raw in enumerate(chunk.rows):
            key = _key(raw, columns)
            ordinal = chunk.ordinals[index]
            # A group that was not there is the mark of a file that changes, which the reader reports at its end.
            number = -1 if key is None else plan.numbers.get(key, -1)
            before = -1 if number < 0 else newest[number]
            slot = held.put(raw, chunk.files[index], chunk.numbers[index], ordinal, before)
            if number < 0 or ordinal >= plan.last[number]:
                yield held.chain(slot), chunk
            else:
                newest[number] = slot


def _key(raw: RawRow, columns: Columns) -> int | None:
    """Return a hash of the row's group; None if the row can't be used."""
    try:
        row = columns.rename(read_row(raw)[0])
    except RowError:
        return None
    try:
        group = group_of_row(row.get("group"))
    except RowError:
        return None
    if group is None:
        prompt = row.get("prompt")
        if not isinstance(prompt, str | list):
            return None
        return int(group_key(prompt), 16)
    digest = hashlib.blake2b(f"{type(group).__name__}:{group}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


class _HeldRows:
    """Rows that wait for the others of their group.

    Each takes a slot in a few arrays (36 bytes). The rows of a group form a chain from the newest to the oldest.
    """

    def __init__(self) -> None:
        self._offsets = array("q")
        """The offset of a slot's content in the file; -1 if it is in memory."""
        self._lengths = array("I")
        self._files = array("I")
        self._numbers = array("q")
        self._ordinals = array("q")
        self._previous = array("i")
        """The slot of the row before it in its group; -1 for the first row."""
        self._free = array("i")
        self._names: dict[str, int] = {}
        self._memory: dict[int, bytes] = {}
        self._memory_bytes = 0
        self._spilled = 0
        self._end = 0
        self._file: IO[bytes] | None = None

    def put(self, raw: RawRow, file: str, number: int, ordinal: int, previous: int) -> int:
        """Hold a row; returns its slot. ``previous`` is the slot of the row before it in its group, or -1."""
        data = b"j" + raw if isinstance(raw, bytes) else b"p" + pickle.dumps(raw)
        name = self._names.setdefault(file, len(self._names))
        in_memory = self._memory_bytes + len(data) + _OVERHEAD_BYTES <= MEMORY_BYTES
        values = (-1 if in_memory else self._end, len(data), name, number, ordinal, previous)
        columns = (self._offsets, self._lengths, self._files, self._numbers, self._ordinals, self._previous)
        if self._free:
            slot = self._free.pop()
            for column, value in zip(columns, values, strict=True):
                column[slot] = value
        else:
            slot = len(self._offsets)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        if in_memory:
            self._memory[slot] = data
            self._memory_bytes += len(data) + _OVERHEAD_BYTES
        else:
            self._spill(data)
        return slot

    def _spill(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="rewardkit-groups-")  # noqa: SIM115 - lives as long as this object
        self._file.seek(self._end)
        self._file.write(data)
        self._end += len(data)
        self._spilled += 1

    def chain(self, slot: int) -> list[int]:
        """Return the slots of a group from its oldest row to its newest, which is given."""
        slots = []
        while slot >= 0:
            slots.append(slot)
            slot = self._previous[slot]
        return slots[::-1]

    def take_chunk(self, slots: Sequence[int], consumed: int, latest: Chunk) -> Chunk:
        """Return held rows as a chunk; they are held no longer.

        Args:
            slots: The rows.
            consumed: Rows of the input that are done once the chunk is.
            latest: The chunk that was read last.
        """
        names = list(self._names)
        files = [names[self._files[slot]] for slot in slots]
        numbers = [self._numbers[slot] for slot in slots]
        ordinals = [self._ordinals[slot] for slot in slots]
        rows = [self._take(slot) for slot in slots]
        return Chunk(files, numbers, rows, ordinals, consumed, latest.position, latest.types)

    def drop(self, slots: Sequence[int]) -> None:
        """Forget rows."""
        for slot in slots:
            self._take(slot)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()

    def _take(self, slot: int) -> RawRow:
        self._free.append(slot)
        if self._offsets[slot] < 0:
            data = self._memory.pop(slot)
            self._memory_bytes -= len(data) + _OVERHEAD_BYTES
        else:
            assert self._file is not None  # noqa: S101
            self._file.seek(self._offsets[slot])
            data = self._file.read(self._lengths[slot])
            self._spilled -= 1
            if not self._spilled:
                self._end = 0
                self._file.truncate(0)
        if data[:1] == b"j":
            return data[1:]
        row: RawRow = pickle.loads(data[1:])  # noqa: S301 - written by put
        return row
