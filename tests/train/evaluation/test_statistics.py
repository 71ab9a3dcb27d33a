# ruff: noqa: E402 - torch first, or nothing here can be imported
import itertools
import math
from statistics import fmean

import pytest

from rewardkit.train.losses.gae import explained_variance
from rewardkit.train.losses.importance_correction import effective_sample_size

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.train.evaluation import statistics


def test_wilson_by_the_book():
    """Wilson's interval of 8 of 10 (a textbook value), and it stays honest at the ends."""
    found = statistics.wilson(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert statistics.wilson(0, 10).low == 0.0
    assert statistics.wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert statistics.wilson(10, 10).high == 1.0
    assert (statistics.wilson(0, 0).low, statistics.wilson(0, 0).high) == (0.0, 1.0)


def test_majority_by_hand():
    """The most frequent answer counts; ties count by half; no answer has no vote, and all of none is wrong."""
    assert statistics.majority_at_k(["1", "2", "2"], [False, True, True], 3) == 1.0
    assert statistics.majority_at_k(["1", "1", "2"], [False, False, True], 3) == 0.0
    assert statistics.majority_at_k(["1", "2"], [False, True], 2) == 0.5
    assert statistics.majority_at_k([None, None, "2"], [False, False, True], 3) == 1.0
    assert statistics.majority_at_k([None, None], [False, False], 2) == 0.0


def test_majority_at_1_is_the_accuracy():
    """majority@1 is exactly the share of correct answers."""
    assert statistics.majority_at_k(list("aabbbbcc"), [True, True] + [False] * 6, 1) == 0.25
    assert statistics.majority_at_k(["a", None], [True, True], 1) == 0.5, "without an answer there is nothing to give"


def test_majority_of_answers_that_are_not_all_right():
    """Two completions say the same, and one of them breaks the format: in whatever order they come, half of that answer is right."""
    assert statistics.majority_at_k(["1", "1", "2"], [True, False, True], 3) == 0.5
    assert statistics.majority_at_k(["1", "1", "2"], [False, True, True], 3) == 0.5


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_majority_is_the_mean_over_all_subsets(data):
    """The result equals enumeration of all choices of k completions and of the winners of each."""
    answers = data.draw(st.lists(st.sampled_from(["a", "b", None]), min_size=2, max_size=6))
    is_right = [answer is not None and data.draw(st.booleans()) for answer in answers]
    k = data.draw(st.integers(1, len(answers)))
    chances = []
    for chosen in itertools.combinations(range(len(answers)), k):
        said = [answers[place] for place in chosen if answers[place] is not None]
        winners = [answer for answer in set(said) if said.count(answer) == max(map(said.count, said))]
        of_winner = [fmean(is_right[place] for place in chosen if answers[place] == winner) for winner in winners]
        chances.append(fmean(of_winner) if of_winner else 0.0)
    found = statistics.majority_at_k(answers, is_right, k, draws=3000)
    assert found == pytest.approx(fmean(chances), abs=0.05)


def test_correlations_by_hand():
    """Pearson sees lines, Spearman any order; ties share their rank; what does not vary has no correlation."""
    assert statistics.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert statistics.pearson([1, 2, 3], [1, 0, 2]) == pytest.approx(0.5)
    assert statistics.spearman([1, 2, 3], [1, 10, 1000]) == pytest.approx(1.0)
    assert statistics.spearman([1, 2, 2, 4], [4, 2, 2, 1]) == pytest.approx(-1.0)
    assert math.isnan(statistics.pearson([1, 1], [1, 2]))
    assert math.isnan(statistics.pearson([], []))
    assert statistics.pearson([0.0, 1.0], [0.0, 1e-300]) == pytest.approx(1.0), (
        "nor is anything too small to be a difference"
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=10))
def test_correlations_are_within_bounds(pairs):
    """Whatever the numbers, a correlation is NaN or within [−1, 1]."""
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    for correlation in (statistics.pearson(xs, ys), statistics.spearman(xs, ys)):
        assert math.isnan(correlation) or -1 <= correlation <= 1


def test_reliability_by_hand():
    """Bins hold what was predicted and what came true; the error is their distance weighed by count."""
    diagram = statistics.reliability([0.05, 0.95, 0.9, 1.0], [True, True, False, True], bins=10)
    assert [one.count for one in diagram] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert diagram[9].predicted == pytest.approx(0.95)
    assert diagram[9].observed == pytest.approx(2 / 3)
    expected = (0.95 + 3 * (0.95 - 2 / 3)) / 4
    assert statistics.expected_calibration_error(diagram) == pytest.approx(expected)
    assert math.isnan(statistics.expected_calibration_error(statistics.reliability([], [])))


def test_explained_variance_by_hand():
    """1 is perfect, a constant 0, worse than a constant below 0; targets that do not vary say nothing."""
    targets = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == 1.0
    assert explained_variance(torch.full((3,), 9.0), targets) == pytest.approx(0.0)
    assert explained_variance(-targets, targets) == pytest.approx(-3.0)
    assert math.isnan(explained_variance(targets, torch.ones(3)))


def test_effective_sample_size_by_hand():
    """Equal weights count in full, one that outweighs all as one; scale does not matter, however large."""
    assert effective_sample_size(torch.ones(5)) == pytest.approx(5.0)
    assert effective_sample_size(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(36 / 14)
    assert effective_sample_size(torch.tensor([1e30, 1e30])) == pytest.approx(2.0)
    assert effective_sample_size(torch.zeros(3)) == 0.0
