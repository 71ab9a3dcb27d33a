"""The metrics of an evaluation: what is shown to people, and what is saved."""

from __future__ import annotations

import pytest

from rewardkit.errors import DataError
from rewardkit.train.evaluation.answers import GREEDY, Answer, ModelAnswers
from rewardkit.train.evaluation.metrics import labelled, model_metrics, record_of
from rewardkit.train.evaluation.pass_at_k import compare


def model_answers(rights, greedy=True):
    """An model_answers with these verdicts for each prompt's samples, and one for each greedy answer."""
    answers = [
        Answer(prompt, place, right, None if right is None else float(right), {}, 1, is_cut=False, answer="x", text="")
        for prompt, verdicts in enumerate(rights)
        for place, right in enumerate(verdicts)
    ]
    first = [
        Answer(prompt, GREEDY, greedy, None if greedy is None else 1.0, {}, 1, is_cut=False, answer="x", text="")
        for prompt in range(len(rights))
    ]
    return ModelAnswers("model", [{}] * len(rights), [*answers, *first])


def test_what_could_not_be_scored_is_shown():
    """The share of unscored answers is shown with the number of problems left out."""
    found = model_metrics(model_answers([[True, False], [None, True]]), 2)
    assert (found["sampled"]["problems"], found["sampled"]["problems_left_out"]) == (1, 1)
    shown = labelled(found)
    assert shown["problems left out"] == 1
    assert shown["unscored"] == pytest.approx(1 / 4)
    assert shown["pass@1"].value == 0.5


def test_where_all_could_be_scored_nothing_is_said_of_it():
    """Nor of majorities of one."""
    shown = labelled(model_metrics(model_answers([[True, False], [False, False]]), 2))
    assert {"unscored", "problems left out", "majority@1"}.isdisjoint(shown)
    assert {"pass@1", "pass@2", "majority@2"} <= shown.keys()


def test_greedy_answers_alone():
    """Without samples, only the greedy metrics and one share of unscored answers are shown."""
    found = model_metrics(model_answers([[], []], greedy=None), 0)
    assert "sampled" not in found
    shown = labelled(found)
    assert shown["unscored"] == 1.0
    assert "problems left out" not in shown


def test_nothing_that_could_be_scored_is_an_error():
    """Metrics without a single scored problem are an error."""
    with pytest.raises(DataError, match="there is no problem whose 2 samples could all be scored"):
        model_metrics(model_answers([[None, True]]), 2)


def test_curves_are_kept_by_k():
    """The record has the curves of both models and of the gain, at the values of k that are shown."""
    base, trained = model_answers([[True, False, False, False]] * 3), model_answers([[True, True, False, False]] * 3)
    changes = compare(base, trained, {0: "all", 1: "all", 2: "all"})
    record = record_of(4, [base, trained], [model_metrics(base, 4), model_metrics(trained, 4)], changes)
    [change] = record["changes"]
    assert list(change["base"]) == list(change["trained"]) == ["1", "2", "4"]
    assert [change[name]["1"][0] for name in ("base", "trained", "gain")] == pytest.approx([0.25, 0.5, 0.25])
    assert change["base"]["2"][0] == pytest.approx(0.5)
    assert change["trained"]["4"][0] == 1.0
