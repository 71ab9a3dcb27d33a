"""Metrics of a reward model on held-out pairs."""

import json
import math
import xml.etree.ElementTree as ET

import pytest

from rewardkit.train.evaluation.preference_accuracy import PairScores, preference_report
from rewardkit.train.reports.reliability_diagram import reliability_svg

PAIRS = [
    PairScores(2.0, 0.0, 10, 20),  # right, and the shorter one
    PairScores(1.0, 0.5, 30, 20),  # right, and the longer one
    PairScores(-1.0, 1.0, 5, 9),  # wrong
    PairScores(0.3, 0.3, 7, 7),  # a tie, of equal length
]


def test_figures_by_hand():
    """Accuracy counts a tie by half, and so do the baselines that only look at length."""
    report = preference_report(PAIRS)
    assert report.accuracy.value == 2.5 / 4
    assert report.always_shorter.value == (2 + 0.5) / 4
    assert report.always_longer.value == (1 + 0.5) / 4
    assert report.where_chosen_is_longer.value == 1.0
    assert report.where_chosen_is_shorter.value == 0.5
    losses = [math.log1p(math.exp(-lead)) for lead in (2.0, 0.5, -2.0, 0.0)]
    assert report.loss == pytest.approx(sum(losses) / 4)
    assert report.mean == pytest.approx((2 + 0 + 1 + 0.5 - 1 + 1 + 0.3 + 0.3) / 8)


def test_calibration_by_hand():
    """Two pairs of confidence σ(2), of which one is right, and one of σ(0.5), which is right: ties have no confidence."""
    report = preference_report(PAIRS)
    two, half = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))
    assert report.calibration_error == pytest.approx((2 * (two - 0.5) + (1 - half)) / 3)
    assert sum(one.count for one in report.diagram) == 3
    assert report.diagram[0].low == 0.5


def test_interval_holds_the_accuracy():
    """The interval is around the value, also with half a success, and large where there are few pairs."""
    report = preference_report(PAIRS)
    assert report.accuracy.low < report.accuracy.value < report.accuracy.high
    assert report.accuracy.high - report.accuracy.low > 0.5


def test_a_model_that_likes_short_answers():
    """A score that is the length turned round shows as a correlation of −1."""
    pairs = [PairScores(-float(n), -float(n + 3), n, n + 3) for n in range(5)]
    report = preference_report(pairs)
    assert report.length_correlation == pytest.approx(-1.0)
    assert report.accuracy.value == report.always_shorter.value == 1.0


def test_large_leads_do_not_overflow():
    """Scores of thousands give a finite loss."""
    assert preference_report([PairScores(-5000.0, 5000.0, 1, 2)]).loss == pytest.approx(10_000.0)


def test_json_has_no_nan():
    """Metrics that one pair does not define are null in the file."""
    data = preference_report([PairScores(1.0, 1.0, 1, 1)]).as_json()
    assert "NaN" not in json.dumps(data)
    assert data["length_correlation"] is None
    assert data["diagram"][0]["predicted"] is None


def test_the_picture_is_well_formed():
    """The SVG parses, and has a point for every bin that holds pairs."""
    root = ET.fromstring(reliability_svg(preference_report(PAIRS).as_json()))  # noqa: S314 - our own
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 2


def test_pairs_without_a_lead_make_a_picture():
    """All ties: no confidence, no calibration error, no point."""
    picture = reliability_svg(preference_report([PairScores(1.0, 1.0, 1, 1)]).as_json())
    assert "calibration error" not in picture
    assert "circle" not in picture


def test_no_pairs():
    """A report on no pairs is an error."""
    with pytest.raises(ValueError, match="no pairs"):
        preference_report([])
