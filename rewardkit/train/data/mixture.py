"""The order of rows from several sources with weights."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from rewardkit.errors import DataError
from rewardkit.train.config import TextData, paths, source_weights
from rewardkit.train.data.batching import Order
from rewardkit.train.data.rows import Row
from rewardkit.train.seeds import step_seed

ROUND = 1000
"""The rows of one round of a mixture, in which each source has its exact share, rounded to whole rows."""


class MixtureOrder:
    """An endless order of the rows of several sources, in which each source has a fixed share. A position in it is one number.

    Each source is in an order of its own, shuffled anew whenever all of its rows have been taken, so that within a source each row is
    taken equally often. Which source comes next is fixed by the seed, too, and spread evenly: after any number of rows, a source has had
    its share to within one or two rows.
    """

    def __init__(self, rows: Sequence[int], weights: Sequence[float], seed: int, *, shuffle: bool = True) -> None:
        """Create the order.

        Args:
            rows: The number of rows of each source. The rows of all are numbered one source after another.
            weights: The weight of each source.
            seed: The seed.
            shuffle: Whether the rows of each source are shuffled.
        """
        self._firsts = [0, *accumulate(rows)]
        self._orders = [
            Order(count, step_seed(seed, f"source {source}"), shuffle=shuffle) for source, count in enumerate(rows)
        ]
        self._quotas = _quotas(weights)
        taken = [0] * len(rows)
        self._places: list[tuple[int, int]] = []
        """For each position of a round: the source, and how many of its rows the round has had before."""
        for source in _pattern(self._quotas, seed):
            self._places.append((source, taken[source]))
            taken[source] += 1

    def take(self, position: int, count: int) -> Iterator[int]:
        """Yield ``count`` rows from a position.

        Args:
            position: The number of rows that come before.
            count: The number of rows.
        """
        for place in range(position, position + count):
            finished, index = divmod(place, ROUND)
            source, before = self._places[index]
            (row,) = self._orders[source].take(finished * self._quotas[source] + before, 1)
            yield self._firsts[source] + row


def order_of_rows(data: TextData, rows: Sequence[int], seed: int, *, shuffle: bool = True) -> Order | MixtureOrder:
    """Return the order in which the rows of ``data.train`` are trained on.

    Args:
        data: The section ``data`` of the configuration.
        rows: The number of usable rows of each source.
        seed: The seed.
        shuffle: Whether rows are shuffled.

    Raises:
        DataError: A source with a weight has no usable rows.
    """
    weights = [weight for weight in source_weights(data.train) if weight is not None]
    if not weights:
        return Order(sum(rows), seed, shuffle=shuffle)
    for source, count in zip(paths(data.train), rows, strict=True):
        if not count:
            raise DataError(f"{source} has a weight in data.train, but none of its rows can be used; remove it")
    return MixtureOrder(rows, weights, seed, shuffle=shuffle)


def source_counts(data: TextData, sources: Iterable[int]) -> list[int]:
    """Return the number of usable rows of each source of ``data.train``.

    Args:
        data: The section ``data`` of the configuration.
        sources: The number of the source of each usable row.
    """
    counts = Counter(sources)
    return [counts[source] for source in range(len(paths(data.train)))]


def describe_sources(data: TextData, rows: Iterable[Row]) -> str | None:
    """Return how many rows each source of ``data.train`` has, and its share if it has a weight; None for a single file.

    Args:
        data: The section ``data`` of the configuration.
        rows: All rows of ``data.train``.
    """
    weights = source_weights(data.train)
    counts = Counter((row.source, str(row.file)) for row in rows)
    if len(counts) < 2:
        return None
    total = sum(weight for weight in weights if weight is not None)
    texts = []
    for (source, file), count in counts.items():
        weight = weights[source]
        share = "" if weight is None else f", {weight / total:.0%} of the rows of a run"
        texts.append(f"{file}: {count:,} rows{share}")
    return "; ".join(texts)


def _quotas(weights: Sequence[float]) -> list[int]:
    """Return how many rows of each source a round has: at least one, by the method of the largest remainder."""
    shares = [weight * ROUND / sum(weights) for weight in weights]
    quotas = [max(int(share), 1) for share in shares]
    while sum(quotas) != ROUND:
        step = 1 if sum(quotas) < ROUND else -1
        open_to_change = [index for index, quota in enumerate(quotas) if quota + step >= 1]
        quotas[max(open_to_change, key=lambda index: step * (shares[index] - quotas[index]))] += step
    return quotas


def _pattern(quotas: Sequence[int], seed: int) -> list[int]:
    """Return the source of each position of a round. Each source's positions are spread evenly, from a random beginning."""
    draw = random.Random(f"{seed}/mixture")  # noqa: S311 - no secrets here
    begins = [draw.random() for _ in quotas]
    places = [
        ((index + begins[source]) / quota, source) for source, quota in enumerate(quotas) for index in range(quota)
    ]
    return [source for _, source in sorted(places)]
