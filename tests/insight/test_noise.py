"""The error rates of a verifier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.errors import DataError
from rewardkit.insight.noise import LabelledRow, Rate, error_rates, labelled_rows


def test_wilson_by_hand():
    """Wilson's interval of 1 in 10 is [1.8 %, 40.4 %], as in statsmodels.stats.proportion.proportion_confint."""
    assert Rate(1, 10).interval == pytest.approx((0.017876, 0.404150), abs=1e-5)
    assert Rate(0, 10).interval == pytest.approx((0.0, 0.277533), abs=1e-5)
    assert Rate(0, 0).share is None
    assert Rate(0, 0).interval == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_share(total, data):
    """An interval lies within 0 and 1 and contains what was observed."""
    rate = Rate(data.draw(st.integers(0, total)), total)
    low, high = rate.interval
    assert 0 <= low <= rate.share + 1e-12
    assert rate.share - 1e-12 <= high <= 1


def test_rates_by_hand():
    """False positives are shares of the wrong rows, false negatives of the right ones; unscored rows are in neither."""
    values = [(True, 1.0), (True, 0.0), (True, None), (False, 0.6), (False, 0.5), (False, 0.0)]
    rates = error_rates([LabelledRow(number, label, value, "") for number, (label, value) in enumerate(values)], 0.5)
    assert (rates.false_positives.count, rates.false_positives.total) == (1, 3)
    assert (rates.false_negatives.count, rates.false_negatives.total) == (1, 2)
    assert (rates.unscored.count, rates.unscored.total) == (1, 6)


def test_labels_are_read():
    """Booleans, numbers and words are labels; the value is the reward's or a component's."""
    row = {"reward": 0.5, "components": {"x": {"value": 0.25}}}
    rows = [row | {"label": label} for label in (True, 0, "1", "False", 1.0)]
    found = labelled_rows(rows, label="label", component="x", by=None)
    assert [item.label for item in found] == [True, False, True, False, True]
    assert found[0].value == 0.25
    assert labelled_rows(rows, label="label", component=None, by="reward")[0].group == "0.5"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "maybe"}, "row 1: the label 'maybe' is not true, false, 1 or 0"),
        ({}, "row 1 has no column 'label'; name the column"),
        ({"label": None}, "row 1: the label None is not"),
    ],
)
def test_bad_labels_are_named(row, message):
    """A row without a usable label ends the command; it never counts as wrong."""
    with pytest.raises(DataError, match=message):
        labelled_rows([{"reward": 1.0} | row], label="label", component=None, by=None)


def test_unknown_components_are_named():
    """The error lists the components that there are."""
    with pytest.raises(DataError, match="there is no component 'y'; the reward has x"):
        labelled_rows([{"reward": 1.0, "label": 1, "components": {"x": {}}}], label="label", component="y", by=None)
