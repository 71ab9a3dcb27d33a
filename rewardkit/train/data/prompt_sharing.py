"""Rows with the same prompt as one sequence: the prompt once, then the completions, none of which sees another one.

A mask keeps the completions apart, and their positions continue those of the prompt, so that every token gets what it gets in a row of
its own. The gradient of the prompt's states is the sum over the completions, as it is when the prompt is repeated (the tree attention of
SpecInfer, https://arxiv.org/abs/2305.09781, used for training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SharingLimits:
    """Which rows of a model share the computation of their prompt."""

    longest: int
    """The largest number of tokens of a bundle."""
    keys: float
    """The number of keys with which the attention of a token costs as much as the layers' matrix products. The attention of a bundle costs
    more than that of its rows, because masked keys are computed, too."""

    def adds(self, bundle: int, prompt: int, row: int) -> bool:
        """Return whether a row costs less in a bundle than alone.

        With n tokens costing ``n·(keys + n)``, a prompt of p tokens and c more of the row, it does if the completions of the bundle have
        fewer than ``p·(keys + p)/2c`` tokens.

        Args:
            bundle: The number of tokens of the bundle, with its prompt.
            prompt: The number of tokens of the prompt.
            row: The number of tokens of the row, with its prompt.
        """
        own = row - prompt
        return bundle + own <= self.longest and 2 * own * (bundle - prompt) < prompt * (self.keys + prompt)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of the rows of a batch."""

    numbers: Sequence[int]
    """For each row, the number of its prompt. Rows with the same prompt have the same number."""
    lengths: Sequence[int]
    """For each row, the number of tokens of its prompt."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Compare the prompts of rows token by token."""
        seen: dict[tuple[int, ...], int] = {}
        return cls([seen.setdefault(tuple(prompt), len(seen)) for prompt in prompts], [len(one) for one in prompts])


def bundle_rows(lengths: Sequence[int], prompts: Prompts, limits: SharingLimits) -> list[list[int]]:
    """Put rows with the same prompt into bundles, each of which is computed as one sequence.

    Args:
        lengths: The number of tokens of each row, with its prompt.
        prompts: The prompts of the rows.
        limits: Which rows are worth it. A row that is longer than a bundle may be is a bundle of its own.

    Returns:
        The rows of each bundle, the longest first. Bundles are in the order of their longest rows.
    """
    bundles: list[list[int]] = []
    tokens: list[int] = []
    of_prompt: dict[int, list[int]] = {}
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        prompt, length = prompts.lengths[row], lengths[row]
        own = of_prompt.setdefault(prompts.numbers[row], [])
        place = next((bundle for bundle in own if limits.adds(tokens[bundle], prompt, length)), len(bundles))
        if place == len(bundles):
            own.append(place)
            bundles.append([])
            tokens.append(prompt)
        bundles[place].append(row)
        tokens[place] += length - prompt
    return bundles


def bundle_lengths(bundles: Sequence[Sequence[int]], lengths: Sequence[int], prompts: Prompts) -> list[int]:
    """Return the number of tokens of each bundle."""
    return [
        sum(lengths[row] for row in rows) - (len(rows) - 1) * prompts.lengths[rows[0]] if rows else 0
        for rows in bundles
    ]


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """What a model gets for lines of bundles."""

    ids_L_W: Tensor
    """Token ids, int64; 0 is padding."""
    positions_L_W: Tensor
    """int64. Those of a completion continue those of its prompt."""
    attends_L_W_W: Tensor
    """bool. Whether a token (row) attends to another (column): an earlier one of its prompt or its own completion, or itself."""
    places: Sequence[Tensor]
    """For each row of the batch, the places in the flat lines of the tokens that predict its completion."""


def shared_inputs(
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    bundles: Sequence[Sequence[int]],
    lines: Sequence[Sequence[int]],
) -> SharedInputs:
    """Return the inputs of lines of bundles.

    Args:
        sequences: The tokens of each row, with its prompt.
        starts: The number of tokens of each row's prompt.
        bundles: The rows of each bundle.
        lines: The indices of the bundles of each line.
    """
    contents: list[list[int]] = []
    positions: list[list[int]] = []
    owners: list[list[int]] = []  # the bundle of each token
    branches: list[list[int]] = []  # the row of each token, or −1 for a prompt
    begins: dict[
        int, tuple[int, int, int]
    ] = {}  # for each row its line, and the places of its prompt and completion there
    for line in lines:
        ids: list[int] = []
        at: list[int] = []
        of: list[int] = []
        branch: list[int] = []
        for bundle in line:
            begin, first = len(ids), bundles[bundle][0]
            start = starts[first]
            ids += sequences[first][:start]
            at += range(start)
            branch += [-1] * start
            for row in bundles[bundle]:
                begins[row] = (len(contents), begin, len(ids))
                completion = sequences[row][start:]
                ids += completion
                at += range(start, start + len(completion))
                branch += [row] * len(completion)
            of += [bundle] * (len(ids) - begin)
        for rows, found in ((contents, ids), (positions, at), (owners, of), (branches, branch)):
            rows.append(found)
    width = max(map(len, contents))
    places = []
    for row, sequence in enumerate(sequences):
        number, begin, own = begins[row]
        count = len(sequence) - starts[row]
        found = [begin + starts[row] - 1, *range(own, own + count - 1)] if count else []
        places.append(torch.tensor(found, dtype=torch.long) + number * width)
    owner_L_W, branch_L_W = _filled(owners, width, -1), _filled(branches, width, -1)
    same = owner_L_W[:, :, None] == owner_L_W[:, None, :]
    seen = (branch_L_W[:, None, :] == -1) | (branch_L_W[:, :, None] == branch_L_W[:, None, :])
    attends = (same & seen).tril()
    return SharedInputs(_filled(contents, width, 0), _filled(positions, width, 0), attends, places)


def _filled(rows: Sequence[Sequence[int]], width: int, padding: int) -> Tensor:
    """Return rows as one tensor, padded on the right."""
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
