"""From values to one number, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.composite.combine import clip, combined, combined_rows, in_group, minmax, scaled, zscore
from rewardkit.config.spec import Combine, Scale

floats = st.floats(-1e6, 1e6)
any_floats = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("how", "contributions", "weights", "total"),
    [
        ("sum", {"a": 0.5, "b": -0.2}, {"a": 0.5, "b": 0.2}, 0.3),
        ("sum", {"a": 0.5, "b": None}, {"a": 0.5, "b": 0.2}, 0.5),
        ("sum", {"a": None}, {"a": 1}, 0.0),
        ("normalized_sum", {"a": 0.5, "b": 1.0}, {"a": 0.5, "b": 1}, 1.5),
        ("mean", {"a": 2.0, "b": 1.0}, {"a": 2, "b": 1}, 1.0),
        ("mean", {"a": 2.0, "b": -1.0}, {"a": 2, "b": -1}, 1 / 3),
        ("mean", {"a": 2.0, "b": None}, {"a": 2, "b": 5}, 1.0),
        ("mean", {"a": None, "b": None}, {"a": 2, "b": 5}, 0.0),
        ("product", {"a": 0.5, "b": 0.5}, {"a": 1, "b": 1}, 0.25),
        ("product", {"a": 0.5, "b": None}, {"a": 1, "b": 1}, 0.5),
        ("product", {"a": None}, {"a": 1}, 0.0),
        ("min", {"a": 0.5, "b": -0.5}, {"a": 1, "b": 1}, -0.5),
        ("min", {"a": 0.5, "b": None}, {"a": 1, "b": 1}, 0.5),
        # An observer, of weight 0, counts in no way: as a factor or minimum it would make everything 0.
        ("sum", {"a": 0.5, "seen": 0.0}, {"a": 1, "seen": 0}, 0.5),
        ("mean", {"a": 0.5, "seen": 0.0}, {"a": 1, "seen": 0}, 0.5),
        ("product", {"a": 0.5, "seen": 0.0}, {"a": 1, "seen": 0}, 0.5),
        ("min", {"a": 0.5, "seen": 0.0}, {"a": 1, "seen": 0}, 0.5),
    ],
)
def test_combined(how: str, contributions: dict, weights: dict, total: float) -> None:
    """Each way of combining gives what was worked out by hand, also with skipped components and observers."""
    assert combined(contributions, weights, how) == pytest.approx(total)


@pytest.mark.parametrize(
    ("value", "bounds", "clipped"),
    [(5, None, 5), (5, (-1, 1), 1), (-5, (-1, 1), -1), (0.5, (-1, 1), 0.5), (1, (-1, 1), 1)],
)
def test_clip(value: float, bounds: tuple | None, clipped: float) -> None:
    """A value outside of its bounds becomes the nearer one."""
    assert clip(value, bounds) == clipped


def test_zscore_by_hand() -> None:
    """Of 1, 2, 3, 4: mean 2.5, variance over n 1.25."""
    deviation = math.sqrt(1.25)
    assert zscore([1, 2, 3, 4]) == pytest.approx([-1.5 / deviation, -0.5 / deviation, 0.5 / deviation, 1.5 / deviation])
    assert zscore([0, 1]) == [-1.0, 1.0]


def test_minmax_by_hand() -> None:
    """The lowest becomes 0 and the highest 1."""
    assert minmax([2, 4, 3]) == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("function", [zscore, minmax])
@pytest.mark.parametrize("values", [[3.0], [0.7, 0.7, 0.7], [0.1 + 0.2, 0.3], [0.0, -0.0], [-1.7e308] * 2])
def test_no_spread_is_zero(function, values: list[float]) -> None:
    """Where all values are equal, but for the noise of floats, nothing stands out."""
    assert function(values) == [0.0] * len(values)


@given(st.lists(floats, min_size=2, max_size=8))
def test_zscores_have_mean_0_and_deviation_1(values: list[float]) -> None:
    """Z-scores have mean 0, and standard deviation 1 unless there is no spread; the order stays."""
    scores = zscore(values)
    assert math.fsum(scores) / len(scores) == pytest.approx(0, abs=1e-3)
    if max(values) - min(values) > 1e-3:
        assert math.sqrt(math.fsum(score**2 for score in scores) / len(scores)) == pytest.approx(1, rel=1e-3)
    in_order = [score for _, score in sorted(zip(values, scores, strict=True))]
    assert in_order == sorted(scores)


@given(st.lists(any_floats, min_size=1, max_size=8))
def test_any_finite_values_scale_to_finite_ones(values: list[float]) -> None:
    """However large the values are, nothing overflows."""
    assert all(math.isfinite(score) for score in zscore(values))
    assert all(0 <= score <= 1 for score in minmax(values))


def test_groups_are_scaled_apart() -> None:
    """Each group is scaled by itself wherever its members stand, and a missing value stays missing and out of it."""
    values = [1.0, 10.0, None, 3.0, 30.0, 2.0]
    groups = ["a", "b", "a", "a", "b", "a"]
    assert scaled(values, Scale("minmax"), groups) == [0.0, 0.0, None, 1.0, 1.0, 0.5]
    assert scaled([1.0, 10.0, None, 3.0, 30.0], Scale("zscore"), groups[:5]) == [-1.0, -1.0, None, 1.0, 1.0]


def test_a_fixed_range_asks_for_no_group() -> None:
    """A range maps its bounds to 0 and 1, and what is outside to beyond them."""
    assert scaled([0.0, 5.0, 10.0, 20.0, None], Scale("range", 0, 10), []) == [0.0, 0.5, 1.0, 2.0, None]
    assert scaled([7.0], None, []) == [7.0]


@given(st.lists(st.tuples(st.none() | floats, st.integers(0, 2)), max_size=12))
def test_in_group_applies_once_per_group(rows: list[tuple[float | None, int]]) -> None:
    """The function sees the present values of each group once, in their order, and its results go back to their places."""
    seen: list[list[float]] = []

    def negate(values: list[float]) -> list[float]:
        seen.append(values)
        return [-value for value in values]

    values, groups = [value for value, _ in rows], [group for _, group in rows]
    assert in_group(values, groups, negate) == [None if value is None else -value for value in values]
    expected = [
        [value for value, other in rows if other == group and value is not None] for group in dict.fromkeys(groups)
    ]
    assert sorted(seen) == sorted(values for values in expected if values)


@pytest.mark.parametrize("how", ["sum", "mean", "product", "min", "normalized_sum"])
@given(
    rows=st.lists(st.tuples(*[st.none() | floats] * 3), max_size=5),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, -2.0])] * 3),
    bounds=st.none() | st.just((-1.0, 0.5)),
)
def test_a_batch_is_combined_as_each_row_is(
    how: Combine,
    rows: list[tuple[float | None, ...]],
    weights: tuple[float, ...],
    bounds: tuple[float, float] | None,
) -> None:
    """To the last bit, also where contributions are missing."""
    columns = list(zip(*rows, strict=True)) or [()] * 3
    by_name = dict(zip("abc", weights, strict=True))
    each = [clip(combined(dict(zip("abc", row, strict=True)), by_name, how), bounds) for row in rows]
    assert combined_rows(columns, weights, how, bounds) == each
