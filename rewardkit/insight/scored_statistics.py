"""Statistics of a scored file: spread, training signal, correlations and disagreements of components.

Names end with their shape: N rows, G groups, K bins of a histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewardkit.insight.difference import TOLERANCE
from rewardkit.insight.scored_file import ScoredFile

BINS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in bins of equal width, or of each value where there are few."""

    edges: tuple[float, ...]
    """K + 1 edges; for single values the edges are the values themselves, and there are K."""
    counts: tuple[int, ...]
    discrete: bool
    """Each bin is one value."""


@dataclass(frozen=True, slots=True)
class Series:
    """The composite reward, or one component, over all rows."""

    name: str
    scored: int
    mean: float | None
    std: float | None
    low: float | None
    median: float | None
    high: float | None
    flat_groups: float | None
    """The share of groups of two and more whose values are all equal."""
    variance_share: float | None
    """The component's share of the within-group variance of the reward; the shares of a sum add up to 1."""
    length_correlation: float | None
    """Pearson's correlation of the value with the length of the completion."""
    statuses: Mapping[str, int]
    histogram: Histogram | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row in which two components say the opposite: both are unusual for the file, in opposite directions."""

    row: int
    """The index of the row, counted from 0."""
    high: str
    low: str
    distance: float
    """The difference of the two values, each in standard deviations from its mean."""


@dataclass(frozen=True, slots=True)
class ScoredStatistics:
    """All statistics of a scored file."""

    rows: int
    groups: int
    series: tuple[Series, ...]
    """The reward first."""
    correlations: Mapping[tuple[str, str], float | None]
    """Pearson's correlation of each pair of series and of the length, named ``length``."""
    flat_low: int
    """Flat groups whose rollouts all have the lowest reward of the file: nobody solves these prompts."""
    flat_high: int
    """Flat groups whose rollouts all have the highest reward of the file: everybody solves them."""
    flat_other: int
    disagreements: tuple[Disagreement, ...]


def statistics_of(file: ScoredFile, *, most: int = 10) -> ScoredStatistics:
    """Compute the statistics of a file that was read with ``details=True``.

    Args:
        file: The scored file.
        most: How many disagreements to name.
    """
    all_N: dict[str, Floats] = {"reward": file.rewards_N, **file.components_N}
    series = tuple(_series(file, name, values_N) for name, values_N in all_N.items())
    with_length = {**all_N, "length": file.lengths_N}
    names = list(with_length)
    correlations = {
        (first, second): _correlation(with_length[first], with_length[second])
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    }
    low, high, other = _flat_groups(file)
    return ScoredStatistics(
        rows=len(file.rewards_N),
        groups=int(file.groups_N.max()) + 1,
        series=series,
        correlations=correlations,
        flat_low=low,
        flat_high=high,
        flat_other=other,
        disagreements=_disagreements(file, most),
    )


def within_group(values_N: Floats, groups_N: NDArray[np.int64]) -> Floats:
    """Return each value minus the mean of its group; missing values (NaN) take no part and stay NaN. Shape: (N,)."""
    present_N = ~np.isnan(values_N)
    count_G = np.bincount(groups_N, weights=present_N)
    total_G = np.bincount(groups_N, weights=np.where(present_N, values_N, 0.0))
    centred_N: Floats = values_N - (total_G / np.maximum(count_G, 1))[groups_N]
    return centred_N


def _series(file: ScoredFile, name: str, values_N: Floats) -> Series:
    present = values_N[~np.isnan(values_N)]
    flat_G, several_G, _ = _flat(values_N, file.groups_N)
    has = bool(present.size)
    return Series(
        name=name,
        scored=int(present.size),
        mean=float(present.mean()) if has else None,
        std=float(present.std()) if has else None,
        low=float(present.min()) if has else None,
        median=float(np.median(present)) if has else None,
        high=float(present.max()) if has else None,
        flat_groups=float(flat_G.sum() / several_G.sum()) if several_G.any() else None,
        variance_share=_variance_share(file, name),
        length_correlation=_correlation(values_N, file.lengths_N),
        statuses=file.statuses.get(name, {}),
        histogram=histogram(present) if has else None,
    )


def histogram(values: Floats) -> Histogram:
    """Count values in up to 20 bins; where there are no more than 20 different values, each has a bin of its own."""
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) <= BINS:
        return Histogram(tuple(map(float, unique)), tuple(map(int, counts)), discrete=True)
    counts, edges = np.histogram(values, BINS)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)), discrete=False)


def _variance_share(file: ScoredFile, name: str) -> float | None:
    """Return cov(contribution, reward) / var(reward), both within groups: for a sum of components, shares add up to 1."""
    contributions_N = file.contributions_N.get(name)
    if contributions_N is None or np.isnan(contributions_N).all():
        return None
    scored_N = ~np.isnan(file.rewards_N)
    reward_N = within_group(file.rewards_N, file.groups_N)[scored_N]
    part_N = within_group(np.where(np.isnan(contributions_N), 0.0, contributions_N), file.groups_N)[scored_N]
    variance = float((reward_N**2).sum())
    return float((part_N * reward_N).sum()) / variance if variance > TOLERANCE else None


def _correlation(a_N: Floats, b_N: Floats) -> float | None:
    both_N = ~np.isnan(a_N) & ~np.isnan(b_N)
    a, b = a_N[both_N], b_N[both_N]
    if a.size < 2 or a.std() <= TOLERANCE or b.std() <= TOLERANCE:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _flat(values_N: Floats, groups_N: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Return which groups are flat, which have two values and more, and the highest value of each."""
    size = int(groups_N.max()) + 1
    low_G, high_G, count_G = np.full(size, np.inf), np.full(size, -np.inf), np.zeros(size)
    present_N = ~np.isnan(values_N)
    np.minimum.at(low_G, groups_N[present_N], values_N[present_N])
    np.maximum.at(high_G, groups_N[present_N], values_N[present_N])
    np.add.at(count_G, groups_N[present_N], 1)
    several_G = count_G >= 2
    flat_G = several_G.copy()
    flat_G[several_G] = high_G[several_G] - low_G[several_G] <= TOLERANCE
    return flat_G, several_G, high_G


def _flat_groups(file: ScoredFile) -> tuple[int, int, int]:
    flat_G, _, value_G = _flat(file.rewards_N, file.groups_N)
    present = file.rewards_N[~np.isnan(file.rewards_N)]
    if not flat_G.any():
        return 0, 0, 0
    lowest = int((flat_G & (value_G <= present.min() + TOLERANCE)).sum())
    highest = int((flat_G & (value_G >= present.max() - TOLERANCE)).sum())
    return lowest, highest, int(flat_G.sum()) - lowest - highest


def _disagreements(file: ScoredFile, most: int) -> tuple[Disagreement, ...]:
    scores = {}
    for name, values_N in file.components_N.items():
        present = values_N[~np.isnan(values_N)]
        if present.size >= 2 and present.std() > TOLERANCE:
            scores[name] = (values_N - present.mean()) / present.std()
    names, found = list(scores), []
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            opposite_N = scores[first] * scores[second] < 0
            distance_N = np.where(opposite_N, np.abs(scores[first] - scores[second]), 0.0)
            for row in np.argsort(-distance_N, kind="stable")[:most]:
                if distance_N[row] > 0:
                    pair = (first, second) if scores[first][row] > scores[second][row] else (second, first)
                    found.append(Disagreement(int(row), *pair, float(distance_N[row])))
    return tuple(sorted(found, key=lambda item: -item.distance)[:most])
