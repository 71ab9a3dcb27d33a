"""The evaluation of a process reward model."""

import math

import pytest

from rewardkit.train.evaluation.step_accuracy import StepScores, area_under_curve, step_report


def test_a_report_by_hand():
    """Three of four steps are right; of two completions one has its first error found."""
    report = step_report([StepScores([2.0, -1.0], [1.0, 0.0], "a"), StepScores([3.0, 0.5], [1.0, 0.0], "b")])
    assert (report.completions, report.steps) == (2, 4)
    assert report.accuracy.value == 0.75
    assert report.on_right.value == 1.0
    assert report.on_wrong.value == 0.5
    assert report.first_error.value == 0.5
    assert report.always_right.value == 0.5
    assert report.auc == 1.0
    assert [(one.name, one.count, one.accuracy.value) for one in report.subsets] == [("a", 2, 1.0), ("b", 2, 0.5)]
    assert report.mean_over_subsets == 0.75
    expected = sum(math.log1p(math.exp(-z)) for z in (2.0, 1.0, 3.0, -0.5)) / 4
    assert report.loss == pytest.approx(expected)


def test_the_area_counts_ties_as_half():
    """Of the pairs (2, 1), (2, 2), (0, 1) and (0, 2), one is in order, one tied and two are not."""
    assert area_under_curve([2.0, 0.0, 1.0, 2.0], [True, True, False, False]) == (1 + 0.5) / 4
    assert math.isnan(area_under_curve([1.0], [True]))
    report = step_report([StepScores([1.0], [1.0])])
    assert report.as_json()["auc"] is None
    assert "auc" not in report.metrics()


def test_no_steps_are_refused():
    """A report on nothing is an error."""
    with pytest.raises(ValueError, match="no steps"):
        step_report([])
