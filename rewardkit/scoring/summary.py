"""Statistics of a run, computed while rows stream by: in bounded memory and independent of the order of rows.

Count, mean, standard deviation, minimum and maximum are exact. The median is exact while there are few distinct values; beyond that
it is the median of values rounded to three significant digits. Shares of groups are exact up to tens of thousands of groups; beyond that
they are estimated from a sample. Estimates are marked ≈.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

MAX_DISTINCT = 4096
MAX_GROUPS = 1 << 15
MAX_REASONS = 500
_REASON_LENGTH = 160
_PLACE = re.compile(r"^.*?:\d+: ")
"""The ``file:line`` before a message about a row, without which equal messages are equal."""


@dataclass
class Series:
    """One stream of numbers."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""
    low: float = math.inf
    high: float = -math.inf
    exact: bool = True
    """True if ``distinct`` holds the values themselves rather than rounded ones."""
    distinct: Counter[float] = field(default_factory=Counter)

    def add(self, values: Iterable[float | None]) -> None:
        """Add a batch of values; None is ignored."""
        found = Counter(values)
        found.pop(None, None)
        if not found:
            return
        numbers: Counter[float] = found  # type: ignore[assignment]  # None is gone
        count = numbers.total()
        mean = math.fsum(value * times for value, times in numbers.items()) / count
        squares = math.fsum((value - mean) ** 2 * times for value, times in numbers.items())
        self.merge(Series(count, mean, squares, min(numbers), max(numbers), True, numbers))

    def merge(self, other: Series) -> None:
        """Add another series. Chan, Golub, LeVeque 1983: updating formulae for computing sample variances."""
        count = self.count + other.count
        if not other.count:
            return
        delta = other.mean - self.mean
        self.mean += delta * other.count / count
        self.squares += other.squares + delta * delta * self.count * other.count / count
        self.count = count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if self.exact and not other.exact:
            self.distinct = _rounded(self.distinct)
        self.exact = self.exact and other.exact
        self.distinct.update(other.distinct if self.exact or not other.exact else _rounded(other.distinct))
        if self.exact and len(self.distinct) > MAX_DISTINCT:
            self.exact = False
            self.distinct = _rounded(self.distinct)

    @property
    def std(self) -> float | None:
        """Standard deviation of the values as they are (divided by n)."""
        return math.sqrt(self.squares / self.count) if self.count else None

    @property
    def median(self) -> float | None:
        """The middle value; for an even count, the mean of the two middle values."""
        if not self.count:
            return None
        low_rank, high_rank = (self.count - 1) // 2, self.count // 2
        passed = 0
        low: float | None = None
        for value, times in sorted(self.distinct.items()):
            passed += times
            if low is None and passed > low_rank:
                low = value
            if passed > high_rank:
                return value if low is None else (low + value) / 2
        return None

    def data(self) -> dict[str, Any]:
        """Return the statistics as JSON data."""
        return {
            "n": self.count,
            "mean": self.mean if self.count else None,
            "std": self.std,
            "min": self.low if self.count else None,
            "median": self.median,
            "median_exact": self.exact,
            "max": self.high if self.count else None,
        }


def _rounded(values: Counter[float]) -> Counter[float]:
    result: Counter[float] = Counter()
    for value, times in values.items():
        result[float(f"{value:.2e}")] += times
    return result


@dataclass
class Groups:
    """Counts groups whose rollouts have different values, for several series at once."""

    width: int
    """The number of series."""
    seen: dict[int, tuple[tuple[float | None, ...], int, int]] = field(default_factory=dict)
    """By a hash of the group: its first values, a bit for each series that has others too, and how many rollouts it has."""
    mask: int = 0
    """Only groups whose hash has none of these bits are kept."""

    def add(self, groups: Sequence[Hashable], columns: Sequence[Sequence[float | None]]) -> None:
        """Add a batch: the group of each rollout, and the values of each series."""
        changes = [place for place, (one, two) in enumerate(pairwise(groups), 1) if one != two]
        for start, end in pairwise([0, *changes, len(groups)] if groups else []):
            first = tuple(column[start] for column in columns)
            spread = 0
            if end - start > 1:
                for bit, column in enumerate(columns):
                    if column[start:end].count(column[start]) != end - start:
                        spread |= 1 << bit
            self._put(_hash(groups[start]), first, spread, end - start)
        self._thin()

    def merge(self, other: Groups) -> None:
        """Add the groups of another batch."""
        if other.mask > self.mask:
            self.mask = other.mask
            self.seen = {key: value for key, value in self.seen.items() if not key & self.mask}
        for key, (first, spread, count) in other.seen.items():
            self._put(key, first, spread, count)
        self._thin()

    def _put(self, key: int, first: tuple[float | None, ...], spread: int, count: int) -> None:
        if key & self.mask:
            return
        known = self.seen.get(key)
        if known is not None:
            first_known, spread_known, count_known = known
            spread |= spread_known
            if first != first_known:
                for bit, (one, two) in enumerate(zip(first, first_known, strict=True)):
                    if one != two:
                        spread |= 1 << bit
            first, count = first_known, count + count_known
        self.seen[key] = first, spread, count

    def _thin(self) -> None:
        while len(self.seen) > MAX_GROUPS:
            self.mask = self.mask << 1 | 1
            self.seen = {key: value for key, value in self.seen.items() if not key & self.mask}

    def zero_std(self, series: int) -> float | None:
        """Return the share of groups of two or more whose rollouts all have the same value; None if there are no such groups."""
        groups = [
            spread >> series & 1
            for first, spread, count in self.seen.values()
            if count > 1 and first[series] is not None
        ]
        return groups.count(0) / len(groups) if groups else None


def _hash(group: Hashable) -> int:
    data = str(group).encode("utf-8", "surrogatepass")
    return zlib.adler32(data) << 32 | zlib.crc32(data)


def added_costs(
    one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]], sign: float = 1.0
) -> dict[str, dict[str, float]]:
    """Return the sums of two tables of costs, by component and name.

    Args:
        one: Costs.
        other: Further ones.
        sign: -1 for the difference.
    """
    result = {component: dict(sums) for component, sums in one.items()}
    for component, sums in other.items():
        mine = result.setdefault(component, {})
        for name, value in sums.items():
            mine[name] = mine.get(name, 0.0) + sign * value
    return result


@dataclass
class Summary:
    """The statistics of a run, for the reward (first) and each component."""

    names: tuple[str, ...]
    """The components."""
    rows: int = 0
    unscored: int = 0
    series: list[Series] = field(default_factory=list)
    kinds: list[Counter[str]] = field(default_factory=list)
    """For the reward and each component, the number of unscored rows of each kind."""
    skipped: list[int] = field(default_factory=list)
    not_applicable: list[int] = field(default_factory=list)
    """For the reward and each component, the number of rows that it does not apply to."""
    groups: Groups = field(default_factory=lambda: Groups(0))
    reasons: Counter[str] = field(default_factory=Counter)
    """Why components could not be scored."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that each component took, summed over threads and workers."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the calls of each component have cost, as sums by name, for components that tell."""
    tracebacks: dict[str, str] = field(default_factory=dict)
    """For each component that raised an exception, the first row that it failed on, with the traceback. It is not part of ``data``."""

    @classmethod
    def empty(cls, names: Sequence[str]) -> Summary:
        """Return the summary of no rows."""
        width = len(names) + 1
        return cls(
            tuple(names),
            series=[Series() for _ in range(width)],
            kinds=[Counter() for _ in range(width)],
            skipped=[0] * width,
            not_applicable=[0] * width,
            groups=Groups(width),
        )

    def add(
        self,
        groups: Sequence[Hashable],
        rewards: Sequence[float | None],
        statuses: Sequence[str],
        values: Sequence[Sequence[float | None]],
    ) -> None:
        """Add the values of a batch; ``values`` has a sequence for each component."""
        self.rows += len(rewards)
        self.unscored += statuses.count("unscored")
        for series, column in zip(self.series, [rewards, *values], strict=True):
            series.add(column)
        self.groups.add(groups, [rewards, *values])

    def add_outcomes(
        self, name: str, statuses: Sequence[str], kinds: Sequence[str | None], reasons: Sequence[str]
    ) -> None:
        """Add the reasons why a component has no value in some rows of a batch."""
        place = self.names.index(name) + 1
        for status, kind, reason in zip(statuses, kinds, reasons, strict=True):
            if status == "skipped":
                self.skipped[place] += 1
            elif status == "not_applicable":
                self.not_applicable[place] += 1
            elif status == "unscored":
                self.kinds[place][kind or "plugin"] += 1
                told = _PLACE.sub("", reason) if kind == "input" else reason
                self._reason(f"{name} ({kind}): {told[:_REASON_LENGTH]}", 1)

    def _reason(self, reason: str, times: int) -> None:
        if reason in self.reasons or len(self.reasons) < MAX_REASONS:
            self.reasons[reason] += times

    def merge(self, other: Summary) -> None:
        """Add the summary of another batch."""
        self.rows += other.rows
        self.unscored += other.unscored
        for mine, theirs in zip(self.series, other.series, strict=True):
            mine.merge(theirs)
        for counter, more in zip(self.kinds, other.kinds, strict=True):
            counter.update(more)
        self.skipped = [one + two for one, two in zip(self.skipped, other.skipped, strict=True)]
        both = zip(self.not_applicable, other.not_applicable, strict=True)
        self.not_applicable = [one + two for one, two in both]
        self.groups.merge(other.groups)
        for reason, times in other.reasons.items():
            self._reason(reason, times)
        for name, seconds in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.costs = added_costs(self.costs, other.costs)
        self.tracebacks = {**other.tracebacks, **self.tracebacks}

    def data(self) -> dict[str, Any]:
        """Return the statistics as JSON data."""
        parts = {}
        for place, name in enumerate(["", *self.names]):
            parts[name] = {
                **self.series[place].data(),
                "zero_std_groups": self.groups.zero_std(place),
                "zero_std_exact": not self.groups.mask,
                "unscored": dict(self.kinds[place]) if name else self.unscored,
                "skipped": self.skipped[place],
                "not_applicable": self.not_applicable[place],
                "seconds": round(self.seconds.get(name, 0.0), 3),
            }
            if name in self.costs:
                parts[name]["costs"] = dict(self.costs[name])
        total = parts.pop("")
        for unused in ("skipped", "not_applicable", "seconds"):
            total.pop(unused)
        return {
            "rows": self.rows,
            "reward": total,
            "components": parts,
            "unscored_reasons": dict(self.reasons.most_common(10)),
        }
