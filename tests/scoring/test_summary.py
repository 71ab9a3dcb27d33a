"""Numbers over a stream."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.scoring.summary import MAX_DISTINCT, MAX_GROUPS, Groups, Series, Summary

_values = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=40)


@given(st.lists(_values, max_size=5))
def test_series_is_the_same_in_pieces(batches: list[list[float | None]]) -> None:
    """Count, mean, standard deviation, extremes and median are those of all values."""
    series = Series()
    for batch in batches:
        series.add(batch)
    values = [value for batch in batches for value in batch if value is not None]
    assert series.count == len(values)
    if values:
        assert series.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
        assert series.std == pytest.approx(statistics.pstdev(values), abs=1e-5)
        assert (series.low, series.high) == (min(values), max(values))
        assert series.median == statistics.median(values)


def test_many_values() -> None:
    """With many distinct values the median is near, and said to be so; memory stays bounded."""
    series = Series()
    for start in range(0, 100_000, 1000):
        series.add([1 + (value * 7919 % 100_000) / 1000 for value in range(start, start + 1000)])
    assert not series.exact
    assert len(series.distinct) <= MAX_DISTINCT
    assert series.median == pytest.approx(51, rel=0.01)


def test_spread() -> None:
    """A group whose rollouts all have one value has no spread; single rollouts don't count."""
    groups = Groups(1)
    groups.add(["a", "a", "b", "b", "c"], [[1.0, 1.0, 0.0, 1.0, 5.0]])
    assert groups.zero_std(0) == 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=30), st.integers(0, 30))
def test_spread_of_mixed_groups(rows: list[tuple[int, int]], cut: int) -> None:
    """The order and the batches don't matter."""
    groups = Groups(1)
    for part in (rows[:cut], rows[cut:]):
        scored_chunk = Groups(1)
        scored_chunk.add([group for group, _ in part], [[float(value) for _, value in part]])
        groups.merge(scored_chunk)
    by_group: dict[int, list[int]] = {}
    for group, value in rows:
        by_group.setdefault(group, []).append(value)
    flat = [len(set(values)) == 1 for values in by_group.values() if len(values) > 1]
    assert groups.zero_std(0) == (sum(flat) / len(flat) if flat else None)


def test_very_many_groups() -> None:
    """Beyond a bound, shares are estimated from a sample of groups, all of whose rollouts count."""
    groups = Groups(1)
    for turn in range(2):
        for start in range(0, 100_000, 10_000):
            names = [f"g{index}" for index in range(start, start + 10_000)]
            groups.add(names, [[float(turn * (index % 4 == 0)) for index in range(10_000)]])
    assert groups.mask
    assert len(groups.seen) <= MAX_GROUPS
    assert groups.zero_std(0) == pytest.approx(0.75, abs=0.02)


def test_reasons_without_places() -> None:
    """The same complaint of many rows is one reason."""
    summary = Summary.empty(["a"])
    summary.add_outcomes("a", ["unscored"] * 2, ["input"] * 2, ["f.jsonl:1: no answer", "f.jsonl:2: no answer"])
    assert summary.reasons == {"a (input): no answer": 2}
