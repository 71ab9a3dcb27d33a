"""Combines the values of components into one number. Pure functions of floats.

Each component contributes *weight × value*; the value may be scaled and clipped first. A component that is skipped or does not
apply contributes nothing and takes no part in any mode: ``mean`` does not divide by its weight, ``product`` and ``min`` are those of the
others, and the statistics of a group are those of its other rollouts. A component of weight 0 is only observed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import repeat

from rewardkit.config.spec import Combine, Scale

GROUP_EPSILON = 1e-6
"""A group whose values differ by no more than this counts as constant, so that rounding errors do not become an advantage."""
_HUGE = 1e100


def clip(value: float, bounds: tuple[float, float] | None) -> float:
    """Clip a value to ``bounds``."""
    return value if bounds is None else min(max(value, bounds[0]), bounds[1])


def in_group(
    values: Sequence[float | None], groups: Sequence[Hashable], function: Callable[[list[float]], list[float]]
) -> list[float | None]:
    """Apply ``function`` to the values of each group. None stays None.

    Args:
        values: One per rollout; None where there is none.
        groups: The group of each rollout.
        function: Maps the values of a group to as many new ones.
    """
    members: dict[Hashable, list[int]] = {}
    for index, (value, group) in enumerate(zip(values, groups, strict=True)):
        if value is not None:
            members.setdefault(group, []).append(index)
    result: list[float | None] = [None] * len(values)
    for indices in members.values():
        present = [value for index in indices if (value := values[index]) is not None]
        for index, scaled in zip(indices, function(present), strict=True):
            result[index] = scaled
    return result


def zscore(values: list[float]) -> list[float]:
    """Return (value − mean) / population standard deviation; zeros if the group is constant."""
    values = _tamed(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if max(values) - min(values) <= GROUP_EPSILON:
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]


def _tamed(values: list[float]) -> list[float]:
    """Scale huge values down, so that their squares and sums are finite."""
    largest = max(abs(value) for value in values)
    return values if largest < _HUGE else [value / largest for value in values]


def minmax(values: list[float]) -> list[float]:
    """Return (value − lowest) / (highest − lowest); zeros if the group is constant."""
    values = _tamed(values)
    low, high = min(values), max(values)
    if high - low <= GROUP_EPSILON:
        return [0.0] * len(values)
    return [(value - low) / (high - low) for value in values]


def scaled(values: Sequence[float | None], scale: Scale | None, groups: Sequence[Hashable]) -> Sequence[float | None]:
    """Rescale one component's values over a batch that holds whole groups."""
    if scale is None:
        return values
    if scale.kind == "range":
        width = scale.high - scale.low
        return [None if value is None else (value - scale.low) / width for value in values]
    return in_group(values, groups, zscore if scale.kind == "zscore" else minmax)


def combined(contributions: Mapping[str, float | None], weights: Mapping[str, float], how: Combine) -> float:
    """Combine contributions into one number. Those of weight 0 are left out.

    Args:
        contributions: weight × value of each component; None where it was skipped or does not apply.
        weights: The components' weights.
        how: ``mean`` divides the sum by the sum of the absolute weights; ``normalized_sum`` expects values that are normalised in
            their groups. Without any contribution, every mode gives 0.
    """
    if how in {"sum", "normalized_sum"}:  # the usual mode, in which a weight of 0 adds nothing
        return sum([part for part in contributions.values() if part is not None], 0.0)
    present = {name: part for name, part in contributions.items() if part is not None and weights[name] != 0}
    if not present:
        return 0.0
    if how == "product":
        return math.prod(present.values())
    if how == "min":
        return min(present.values())
    return sum(present.values()) / sum(abs(weights[name]) for name in present)


def combined_rows(
    columns: Sequence[Sequence[float | None]],
    weights: Sequence[float],
    how: Combine,
    bounds: tuple[float, float] | None,
) -> list[float]:
    """Combine the contributions of each rollout of a batch, and clip the results.

    Args:
        columns: For each component its contribution to each rollout; see ``combined``.
        weights: The weight of each component.
        how: See ``combined``.
        bounds: What the results are clipped to.
    """
    if how in {"sum", "normalized_sum"} and not any(None in column for column in columns):
        # As `combined` does it, by the standard library's own loop.
        rewards = list(map(sum, zip(*columns, strict=True), repeat(0.0)))
    else:
        names = [str(number) for number in range(len(columns))]
        by_name = dict(zip(names, weights, strict=True))
        rewards = [combined(dict(zip(names, row, strict=True)), by_name, how) for row in zip(*columns, strict=True)]
    return rewards if bounds is None else [clip(reward, bounds) for reward in rewards]
