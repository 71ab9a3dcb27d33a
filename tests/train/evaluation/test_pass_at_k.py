"""Comparisons of two models: closed forms equal enumeration, equal models show no gain, and intervals are over problems."""

from __future__ import annotations

import math
from itertools import combinations, product
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.errors import DataError
from rewardkit.train.evaluation.answers import GREEDY, Answer, ModelAnswers
from rewardkit.train.evaluation.pass_at_k import (
    change,
    compare,
    estimate,
    greedy_gain,
    majorities,
    pass_at_all,
    passes,
    resamples,
    shown_ks,
)


def model_answers(rights, text="x"):
    """An model_answers with these verdicts for each prompt."""
    answers = [
        Answer(prompt, place, right, None if right is None else float(right), {}, 1, is_cut=False, answer=text, text="")
        for prompt, verdicts in enumerate(rights)
        for place, right in enumerate(verdicts)
    ]
    return ModelAnswers(
        "model", [], [*answers, Answer(0, GREEDY, True, 1.0, {}, 1, is_cut=False, answer=None, text="")]
    )


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_pass_at_all_is_pass_at_k(samples, data):
    """The running product is the definition of Chen et al. 2021, 1 − C(n−c, k)/C(n, k), for every k."""
    right = data.draw(st.integers(0, samples))
    [found] = pass_at_all(samples, torch.tensor([right])).tolist()
    expected = [1 - math.comb(samples - right, k) / math.comb(samples, k) for k in range(1, samples + 1)]
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4))
def test_shares_are_expectations_over_which_half_is_which(counts):
    """The closed forms equal enumeration of all choices of 2 of 4 samples of either model."""
    found = change("all", 4, [base for base, _ in counts], [trained for _, trained in counts])
    within = elicited = created = new = lost = luck = 0.0
    for right_base, right_trained in counts:
        base, trained = ([1] * right + [0] * (4 - right) for right in (right_base, right_trained))
        halves = [(set(half), set(range(4)) - set(half)) for half in combinations(range(4), 2)]
        for (looked, other), (tried, _) in product(halves, halves):
            is_within = any(base[place] for place in looked)
            gain = fmean(trained) - fmean(base[place] for place in other)
            solved = any(trained[place] for place in tried)
            within += is_within
            elicited += gain * is_within
            created += gain * (not is_within)
            new += solved and not is_within
            lost += is_within and not solved
            luck += any(base[place] for place in other) and not is_within
    every = 36 * len(counts)
    assert found.within.value == pytest.approx(within / every)
    assert found.new.value == pytest.approx(new / every)
    assert found.lost.value == pytest.approx(lost / every)
    assert found.luck.value == pytest.approx(luck / every)
    assert found.new_beyond_luck.value == pytest.approx((new - luck) / every)
    if within:
        assert found.elicited.value == pytest.approx(elicited / within)
    if within < every:
        assert found.created.value == pytest.approx(created / (every - within))


def test_two_equal_models_show_no_change():
    """Many problems of any difficulty, sampled twice from the same chances: no gain on either side, nothing new beyond luck."""
    generator = torch.Generator().manual_seed(1)
    chances_P = torch.rand(4000, generator=generator, dtype=torch.float64) ** 4
    base, trained = (
        torch.bernoulli(chances_P[:, None].expand(-1, 16), generator=generator).sum(1).int().tolist() for _ in range(2)
    )
    found = change("all", 16, base, trained)
    for figure in (found.gain[0], found.gain[-1], found.elicited, found.created, found.new_beyond_luck):
        assert abs(figure.value) < 0.01
        assert figure.low < 0 < figure.high
    assert found.new.value > 0.02, "looked at by itself, luck seems to have solved many problems"


def test_elicitation_and_creation_are_told_apart():
    """A problem that the base model solves sometimes counts as elicited, and one that it never solves as created."""
    likelier = change("all", 16, [8] * 50 + [0] * 50, [16] * 50 + [0] * 50)
    assert likelier.elicited.value == pytest.approx(0.5, abs=0.01)
    assert likelier.created.value == pytest.approx(0.0, abs=0.01)
    assert likelier.elicited_share.value == pytest.approx(1.0, abs=0.01)
    possible = change("all", 16, [16] * 50 + [0] * 50, [16] * 50 + [8] * 50)
    assert possible.created.value == pytest.approx(0.5)
    assert possible.elicited.value == 0
    assert possible.new_beyond_luck.value == pytest.approx(0.5, abs=0.01)


def test_the_crossover_is_found():
    """A sharper model that gave up some problems: ahead at first, overtaken later, for good."""
    found = change("all", 16, [4] * 100, [16] * 60 + [0] * 40)
    assert found.gain[0].value > 0 > found.gain[-1].value
    k = found.crossover
    assert found.gain[k - 2].value >= 0 > found.gain[k - 1].value
    assert change("all", 16, [4] * 10, [8] * 10).crossover is None
    assert change("all", 16, [8] * 10, [4] * 10).crossover is None, "behind from the first"


def test_intervals_are_over_problems():
    """A thousand samples of four problems are four pieces of evidence, not four thousand."""
    found = change("all", 1000, [1000, 1000, 0, 0], [1000, 1000, 0, 0])
    assert found.base[0].high - found.base[0].low > 0.5


def test_the_interval_of_a_paired_gain_is_narrow():
    """Problems of any difficulty, each a little likelier: their spread is not the gain's."""
    base = list(range(0, 60, 2))
    found = change("all", 64, base, [right + 3 + 2 * (index % 2) for index, right in enumerate(base)])
    assert found.gain[0].high - found.gain[0].low < 0.02
    assert found.base[0].high - found.base[0].low > 0.1


def test_no_doubt_at_all_is_not_believed():
    """All of 20 solved: a sixth of all problems may still be of a kind that was not among them."""
    draws_R_P = resamples(20)
    sure = estimate(draws_R_P @ torch.ones(20, dtype=torch.float64) / 20, 20)
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low == pytest.approx(0.025 ** (1 / 20))
    same = change("all", 4, [2] * 20, [2] * 20).gain[0]
    assert same.low < 0 < same.high


def test_the_interval_covers_as_often_as_it_says():
    """At least 90 % of the intervals of pass@4 on 200 sets of 60 problems contain the true value."""
    generator = torch.Generator().manual_seed(0)
    truth = fmean(1 - (1 - chance) ** 4 for chance in [(index + 0.5) / 1000 for index in range(1000)])
    held = 0
    for _ in range(200):
        chances_P = torch.rand(60, generator=generator, dtype=torch.float64)
        right = torch.bernoulli(chances_P[:, None].expand(-1, 8), generator=generator).sum(1)
        draws = resamples(60) @ pass_at_all(8, right)[:, 3] / 60
        found = estimate(draws, 60)
        held += found.low <= truth <= found.high
    assert held >= 180


def test_classes_are_compared_by_themselves():
    """The whole first; a problem that could not be scored is in none."""
    base = model_answers([[True, False], [False, False], [None, True]])
    trained = model_answers([[True, True], [True, False], [True, True]])
    whole, easy, hard = compare(base, trained, {0: "easy", 1: "hard", 2: "hard"})
    assert [item.problems for item in (whole, easy, hard)] == [2, 1, 1]
    assert [item.name for item in (whole, easy, hard)] == ["all", "easy", "hard"]
    assert hard.base[0].value == 0
    assert [item.name for item in compare(base, trained, dict.fromkeys(range(3), "x"))] == ["all"]


def test_what_is_no_class_is_refused():
    """A column that is different in every row, and all_answers of which nothing could be scored."""
    many = model_answers([[True, False]] * 60)
    with pytest.raises(DataError, match="60 classes among 60 problems"):
        compare(many, many, {index: str(index) for index in range(60)})
    with pytest.raises(DataError, match="no problem whose samples could all be scored"):
        compare(model_answers([[None, True]]), model_answers([[True, True]]), {0: "all"})


def test_figures_of_one_model():
    """pass@k and majority@k over the problems whose samples could all be scored."""
    found = model_answers([[True, False], [False, False], [None, True]])
    assert passes(found, [1, 2])[1].value == pytest.approx(0.25)
    assert passes(found, [1, 2])[2].value == pytest.approx(0.5)
    assert set(majorities(found, [1, 2])) == {1, 2}
    assert majorities(model_answers([[True, False]], text=None), [1]) == {}
    assert passes(model_answers([[None, None]]), [1]) == {}


def test_the_gain_of_greedy_answers_is_paired():
    """Problem by problem; one that either model's answer to could not be scored is in none."""

    def greedy(*rights):
        answers = [
            Answer(prompt, GREEDY, right, 1.0, {}, 1, is_cut=False, answer=None, text="")
            for prompt, right in enumerate(rights)
        ]
        return ModelAnswers("model", [], answers)

    found = greedy_gain(greedy(False, True, None, False), greedy(True, True, True, None))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert greedy_gain(greedy(None), greedy(True)) is None


def test_ks_double_up_to_the_number_of_samples():
    """The values of k are the powers of 2 and the number of samples itself."""
    assert shown_ks(16) == [1, 2, 4, 8, 16]
    assert shown_ks(12) == [1, 2, 4, 8, 12]
    assert shown_ks(0) == []


def test_a_class_without_problems_out_of_reach_has_no_gain_there():
    """The gain on an empty set of problems is NaN, not 0."""
    assert math.isnan(change("all", 4, [4, 4], [4, 4]).created.value)
