"""The order of rows, and micro-batches by token count."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rewardkit.reward_models import micro_batches
from rewardkit.train.distributed.collectives import rank, size

T = TypeVar("T")

__all__ = ["Order", "micro_batches", "own_micro_batches"]


def own_micro_batches(lengths: Sequence[int], most_tokens: int) -> tuple[list[list[int]], int]:
    """Split this process's share of a batch into micro-batches.

    Args:
        lengths: The number of tokens of each row of the whole batch.
        most_tokens: The largest number of tokens of a micro-batch, padding included.

    Returns:
        The rows of each micro-batch, and how many micro-batches fewer this process has than the process with the most.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cuts = []
    for process in range(size()):
        rows = order[process :: size()]
        parts = micro_batches([lengths[row] for row in rows], most_tokens)
        cuts.append([[rows[index] for index in part] for part in parts])
    own = cuts[rank()]
    return own, max(map(len, cuts)) - len(own)


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
