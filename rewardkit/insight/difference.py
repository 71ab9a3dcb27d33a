"""Compares two rewards: statistics of two scored files of the same rows.

Names end with their shape: N rows, G groups of one size, K rollouts of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewardkit.errors import DataError
from rewardkit.insight.scored_file import ScoredFile

TOLERANCE = 1e-9
"""Rewards that differ by no more are equal."""
GRPO_EPSILON = 1e-4
"""Added to the standard deviation of a group, as TRL does."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AdvantageChange:
    """The difference between the advantages of one algorithm under the two rewards."""

    mean_absolute: float
    """The mean absolute difference over rows that both rewards scored, in groups of two and more."""
    sign_flips: float
    """The share of these rows whose advantage changed its sign."""
    correlation: float | None
    """Pearson's correlation of the two advantages; None where one of them is constant."""


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """The difference of one component between the two files."""

    mean_a: float | None
    """The mean of its values in the first file; None where the file has none."""
    mean_b: float | None
    changed: int
    """Rows whose value differs, or that only one of the files has a value for."""
    largest: float
    """The largest absolute difference of a value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two scored files of the same rows."""

    rows: int
    groups: int
    changed_rows: int
    """Rows whose reward or status differs."""
    pairs: int
    """Pairs of rollouts of one group that both rewards scored."""
    flipped_pairs: int
    """Pairs of which the first reward prefers one rollout and the second the other."""
    newly_tied_pairs: int
    """Pairs that only the first reward tells apart."""
    newly_distinct_pairs: int
    """Pairs that only the second reward tells apart."""
    flat_groups_a: int
    """Groups of two and more whose rewards are all equal in the first file: they give no training signal."""
    flat_groups_b: int
    newly_flat_groups: int
    """Groups that are flat only in the second file."""
    unscored_a: int
    unscored_b: int
    newly_unscored: int
    """Rows that only the first reward scored."""
    mean_a: float | None
    mean_b: float | None
    advantages: Mapping[str, AdvantageChange]
    """By algorithm: ``grpo``, ``dr_grpo``, ``rloo``."""
    components: Mapping[str, ComponentChange]
    most_changed: tuple[int, ...]
    """Indices of the rows that changed most, the largest change first; a row that lost or gained its score comes first."""

    @property
    def changed_share(self) -> float:
        """The share of rows whose reward or status differs."""
        return self.changed_rows / self.rows


def compare(a: ScoredFile, b: ScoredFile, *, most: int = 20) -> Difference:
    """Compare two scored files row by row.

    Args:
        a: The file of the reward that is used today.
        b: The file of the reward that may replace it, with the same rows in the same order.
        most: How many of the most changed rows to name.

    Raises:
        DataError: The files hold different rows.
    """
    if len(a.rows_N) != len(b.rows_N):
        raise DataError(f"{a.path} has {len(a.rows_N):,} rows and {b.path} has {len(b.rows_N):,}: score the same rows")
    if (different := np.flatnonzero(a.rows_N != b.rows_N)).size:
        raise DataError(
            f"row {different[0] + 1:,} of {a.path} and of {b.path} have different prompts or completions: score the same rows"
        )
    rewards_a_N, rewards_b_N = a.rewards_N, b.rewards_N
    scored_a_N, scored_b_N = ~np.isnan(rewards_a_N), ~np.isnan(rewards_b_N)
    changed_N = _changed(rewards_a_N, rewards_b_N)
    pairs = _Pairs()
    flat_a, flat_b, newly_flat = 0, 0, 0
    advantages: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in ADVANTAGES}
    for index_G_K in _groups_by_size(a.groups_N):
        rewards_a_G_K, rewards_b_G_K = rewards_a_N[index_G_K], rewards_b_N[index_G_K]
        is_flat_a_G, is_flat_b_G = _is_flat(rewards_a_G_K), _is_flat(rewards_b_G_K)
        flat_a += int(is_flat_a_G.sum())
        flat_b += int(is_flat_b_G.sum())
        newly_flat += int((is_flat_b_G & ~is_flat_a_G).sum())
        pairs.add(rewards_a_G_K, rewards_b_G_K)
        both_G_K = ~np.isnan(rewards_a_G_K) & ~np.isnan(rewards_b_G_K)
        for name, function in ADVANTAGES.items():
            advantages[name].append((function(rewards_a_G_K)[both_G_K], function(rewards_b_G_K)[both_G_K]))
    change_N = np.where(scored_a_N & scored_b_N, np.abs(rewards_a_N - rewards_b_N), np.inf)
    change_N[~changed_N] = -1.0
    order = np.argsort(-change_N, kind="stable")[:most]
    return Difference(
        rows=len(rewards_a_N),
        groups=int(a.groups_N.max()) + 1,
        changed_rows=int(changed_N.sum()),
        pairs=pairs.both,
        flipped_pairs=pairs.flipped,
        newly_tied_pairs=pairs.newly_tied,
        newly_distinct_pairs=pairs.newly_distinct,
        flat_groups_a=flat_a,
        flat_groups_b=flat_b,
        newly_flat_groups=newly_flat,
        unscored_a=int((~scored_a_N).sum()),
        unscored_b=int((~scored_b_N).sum()),
        newly_unscored=int((scored_a_N & ~scored_b_N).sum()),
        mean_a=_mean(rewards_a_N),
        mean_b=_mean(rewards_b_N),
        advantages={name: _advantage_change(parts) for name, parts in advantages.items()},
        components=_component_changes(a, b),
        most_changed=tuple(int(index) for index in order if change_N[index] >= 0),
    )


def grpo_advantages(rewards_G_K: Floats) -> Floats:
    """Return (R − mean) / (std + 1e-4) within each group, as GRPO has it (arXiv 2402.03300); unscored rows (NaN) take no part.

    Args:
        rewards_G_K: Rewards of G groups of K rollouts.

    Returns:
        Advantages of the same shape; 0 for a row that is alone in its group, NaN for unscored rows.
    """
    centred_G_K = dr_grpo_advantages(rewards_G_K)
    count_G_1 = _count(rewards_G_K)
    variance_G_1 = np.nansum(centred_G_K**2, axis=1, keepdims=True) / np.maximum(count_G_1 - 1, 1)
    advantages_G_K: Floats = centred_G_K / (np.sqrt(variance_G_1) + GRPO_EPSILON)
    return advantages_G_K


def dr_grpo_advantages(rewards_G_K: Floats) -> Floats:
    """Return R − mean within each group, as Dr. GRPO has it (arXiv 2503.20783). Shapes as in ``grpo_advantages``."""
    count_G_1 = _count(rewards_G_K)
    centred_G_K: Floats = rewards_G_K - np.nansum(rewards_G_K, axis=1, keepdims=True) / np.maximum(count_G_1, 1)
    return centred_G_K


def rloo_advantages(rewards_G_K: Floats) -> Floats:
    """Return R minus the mean of the other rollouts, as RLOO has it (arXiv 2402.14740). Shapes as in ``grpo_advantages``."""
    count_G_1 = _count(rewards_G_K)
    advantages_G_K: Floats = dr_grpo_advantages(rewards_G_K) * count_G_1 / np.maximum(count_G_1 - 1, 1)
    return advantages_G_K


ADVANTAGES: Mapping[str, Callable[[Floats], Floats]] = {
    "grpo": grpo_advantages,
    "dr_grpo": dr_grpo_advantages,
    "rloo": rloo_advantages,
}


def _count(rewards_G_K: Floats) -> NDArray[np.int64]:
    count_G_1: NDArray[np.int64] = (~np.isnan(rewards_G_K)).sum(axis=1, keepdims=True)
    return count_G_1


def _groups_by_size(groups_N: NDArray[np.int64], most_cells: int = 1 << 22) -> Iterator[NDArray[np.int64]]:
    """Yield row indices ``[G, K]`` of the groups of each size K ≥ 2, a bounded number of groups at a time."""
    order_N = np.argsort(groups_N, kind="stable")
    sizes_G = np.bincount(groups_N)
    starts_G = np.cumsum(sizes_G) - sizes_G
    for size in np.unique(sizes_G[sizes_G >= 2]):
        starts = starts_G[sizes_G == size]
        step = max(1, most_cells // int(size) ** 2)
        for first in range(0, len(starts), step):
            yield order_N[starts[first : first + step, None] + np.arange(size)]


def _changed(a: Floats, b: Floats) -> NDArray[np.bool_]:
    both_nan = np.isnan(a) & np.isnan(b)
    with np.errstate(invalid="ignore"):
        changed: NDArray[np.bool_] = ~both_nan & ~(np.abs(a - b) <= TOLERANCE)
    return changed


def _is_flat(rewards_G_K: Floats) -> NDArray[np.bool_]:
    low_G = np.where(np.isnan(rewards_G_K), np.inf, rewards_G_K).min(axis=1)
    high_G = np.where(np.isnan(rewards_G_K), -np.inf, rewards_G_K).max(axis=1)
    flat_G: NDArray[np.bool_] = (_count(rewards_G_K)[:, 0] >= 2) & (high_G - low_G <= TOLERANCE)
    return flat_G


class _Pairs:
    """Counts of pairs within groups, by what the two rewards say of them."""

    def __init__(self) -> None:
        self.both = self.flipped = self.newly_tied = self.newly_distinct = 0

    def add(self, rewards_a_G_K: Floats, rewards_b_G_K: Floats) -> None:
        first, second = np.triu_indices(rewards_a_G_K.shape[1], 1)
        sign_a, sign_b = (_sign(x[:, first] - x[:, second]) for x in (rewards_a_G_K, rewards_b_G_K))
        both = ~np.isnan(sign_a) & ~np.isnan(sign_b)
        self.both += int(both.sum())
        self.flipped += int((both & (sign_a * sign_b < 0)).sum())
        self.newly_tied += int((both & (sign_a != 0) & (sign_b == 0)).sum())
        self.newly_distinct += int((both & (sign_a == 0) & (sign_b != 0)).sum())


def _sign(difference: Floats) -> Floats:
    sign: Floats = np.where(np.abs(difference) <= TOLERANCE, 0.0, np.sign(difference))
    return sign


def _mean(values_N: Floats) -> float | None:
    present = values_N[~np.isnan(values_N)]
    return float(present.mean()) if present.size else None


def _advantage_change(parts: list[tuple[Floats, Floats]]) -> AdvantageChange:
    a = np.concatenate([part for part, _ in parts]) if parts else np.zeros(0)
    b = np.concatenate([part for _, part in parts]) if parts else np.zeros(0)
    if not a.size:
        return AdvantageChange(0.0, 0.0, None)
    varies = a.std() > TOLERANCE and b.std() > TOLERANCE
    return AdvantageChange(
        mean_absolute=float(np.abs(a - b).mean()),
        sign_flips=float((_sign(a) * _sign(b) < 0).mean()),
        correlation=float(np.corrcoef(a, b)[0, 1]) if varies else None,
    )


def _component_changes(a: ScoredFile, b: ScoredFile) -> dict[str, ComponentChange]:
    changes = {}
    nothing_N = np.full(len(a.rewards_N), np.nan)
    for name in [*a.components_N, *(name for name in b.components_N if name not in a.components_N)]:
        values_a_N, values_b_N = a.components_N.get(name, nothing_N), b.components_N.get(name, nothing_N)
        both_N = ~np.isnan(values_a_N) & ~np.isnan(values_b_N)
        changes[name] = ComponentChange(
            mean_a=_mean(values_a_N),
            mean_b=_mean(values_b_N),
            changed=int(_changed(values_a_N, values_b_N).sum()),
            largest=float(np.abs(values_a_N - values_b_N)[both_N].max(initial=0.0)),
        )
    return changes
