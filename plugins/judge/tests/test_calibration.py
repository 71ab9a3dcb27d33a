"""Measures of a judge, by hand and by simulation."""

import random

import pytest
from rewardkit_judge.calibration import (
    JudgedPair,
    JudgedRow,
    calibrate_pairs,
    calibrate_rows,
    consistency,
    correlation,
    kappa,
    reliability,
)


def test_kappa_by_hand():
    """The textbook table: 20 both, 5 and 10 one of them, 15 neither: observed 0.7, by chance 0.5."""
    found = kappa((20, 5, 10, 15))
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (9, 0, 0, 0)])
def test_kappa_without_disagreement_is_not_defined(table):
    """One answer only says nothing about agreement beyond chance."""
    assert kappa(table).value is None


def test_rates_of_a_judge():
    """Rows without a score count nowhere but in ``unscored``."""
    values = [(True, 0.9), (True, 0.2), (False, 0.8), (False, 0.1), (False, 0.3), (True, None)]
    rows = [JudgedRow(number, label, value, 10) for number, (label, value) in enumerate(values, 1)]
    found = calibrate_rows(rows, 0.5)
    assert (found.agreement.count, found.agreement.total) == (3, 5)
    assert (found.errors.false_positives.count, found.errors.false_positives.total) == (1, 3)
    assert (found.errors.false_negatives.count, found.errors.false_negatives.total) == (1, 2)
    assert (found.errors.unscored.count, found.errors.unscored.total) == (1, 6)


def test_bias_towards_length_is_seen():
    """A judge that adds a point to long responses correlates with length; an unbiased one does not."""
    draw = random.Random(0)  # noqa: S311
    lengths = [draw.randint(10, 400) for _ in range(300)]
    labels = [draw.random() < 0.5 for _ in lengths]

    def length_of(bias):
        rows = [
            JudgedRow(n, label, min(1.0, 0.7 * label + bias * (length > 200)), length)
            for n, (label, length) in enumerate(zip(labels, lengths, strict=True))
        ]
        return calibrate_rows(rows, 0.5).length

    assert length_of(0.3).low > 0.2
    assert length_of(0.0).low < 0.0 < length_of(0.0).high


def test_a_constant_has_no_correlation():
    """Nothing is divided by zero."""
    assert correlation([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]).value is None
    assert correlation([0.0], [1.0]).value is None


def test_bias_towards_the_first_response_is_seen():
    """A judge that always prefers what it sees first has a position bias of 1, decides nothing, and is a tie everywhere."""
    pairs = [JudgedPair(n, bool(n % 2), 1.0, 0.0, (5, 9), ((1.0,), (1.0,))) for n in range(20)]
    found = calibrate_pairs(pairs)
    assert (found.first_shown.share, found.orders_agree.share, found.agreement.share) == (1.0, 0.0, 0.0)
    assert found.errors.unscored.count == 0


def test_a_right_judge_of_pairs():
    """Full agreement, kappa 1, no position bias; a pair without a verdict is counted apart."""
    pairs = [
        JudgedPair(n, first, float(first), float(first), (5, 9), ((float(first),), (1.0 - first,)))
        for n, first in enumerate([True, False] * 10)
    ]
    found = calibrate_pairs([*pairs, JudgedPair(20, True, None, None, (1, 2))])
    assert (found.agreement.count, found.agreement.total, found.kappa.value) == (20, 20, 1.0)
    assert (found.first_shown.share, found.errors.unscored.count) == (0.5, 1)
    assert [rate.share for rate in found.longer] == [0.5, 0.5]


def test_votes_that_agree():
    """Pairs of votes on the same side of the threshold."""
    rate = consistency([(1.0, 0.9, 0.1), (0.2,), ()], 0.5)
    assert (rate.count, rate.total) == (1, 3)


def test_bins_of_a_reliability_plot():
    """Each value is in one bin, 1 in the last, and empty bins are left out."""
    found = reliability([(0.0, False), (0.05, True), (1.0, True)])
    assert [(item.low, item.true.count, item.true.total) for item in found] == [(0.0, 1, 2), (0.9, 1, 1)]
