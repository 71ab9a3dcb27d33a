"""The evaluation report states its results in sentences, and escapes every completion."""

from __future__ import annotations

import pytest

from rewardkit.errors import OutputError
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.evaluation.answers import Answer, ModelAnswers
from rewardkit.train.evaluation.pass_at_k import change, compare
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.reports.evaluation_report import sentences, words, write_page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def model_answers(model, rights):
    """Return answers to prompts that both contain HTML."""
    prompts = [Prompt((1,), f"{number} {HOSTILE}", {}, "") for number in range(len(rights))]
    answers = [
        Answer(prompt, place, right, float(right), {}, 1, is_cut=False, answer=None, text=HOSTILE)
        for prompt, verdicts in enumerate(rights)
        for place, right in enumerate(verdicts)
    ]
    return ModelAnswers(model, prompts, answers)


def test_a_comparison_is_drawn(tmp_path):
    """The report has curves for all problems and for each class, differences, and the problems that changed, all escaped."""
    base = model_answers("a/base", [[False] * 4, [True, True, False, False], [True] * 4])
    trained = model_answers("b/<b>", [[True] * 4, [True] * 4, [False] * 4])
    changes = compare(base, trained, {0: "<i>", 1: "easy", 2: "easy"})
    metrics = [{"pass@1": change_.base[0]} for change_ in changes[:1]] * 2
    page = write_page(tmp_path / "eval.html", metrics, [base, trained], changes).read_text()
    assert page.count("<svg") == 3
    assert "trained: b/&lt;b&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "0 of 4 right" in page
    assert "Solved by at least one sample of the base model, and by none of the trained model" in page


def test_one_model_is_reported_without_a_comparison(tmp_path):
    """A single model has its metrics and no curves."""
    page = write_page(tmp_path / "eval.html", [{"pass@1": Estimate(0.5, 0.4, 0.6)}], [model_answers("m", [[True]])], [])
    assert "0.500 (0.400…0.600)" in page.read_text()
    assert "<svg" not in page.read_text()


@pytest.mark.parametrize(
    ("base", "trained", "said"),
    [
        (
            [8] * 50 + [0] * 50,
            [16] * 50 + [0] * 50,
            ["100% of that", "luck may explain", "neither model is ahead: both solve 0.500"],
        ),
        (
            [0] * 60 + [16] * 40,
            [8] * 60 + [16] * 40,
            ["luck does not explain that: training made right answers possible"],
        ),
        (
            [4] * 100,
            [16] * 60 + [0] * 40,
            ["on the base model is ahead; at k = 16 by 0.4", "luck alone would find more"],
        ),
        ([8] * 100, [4] * 60 + [0] * 40, ["The base model is ahead at every k up to 16"]),
        ([8, 8, 8, 9], [8, 8, 8, 8], ["pass@1 went from 0.516 to 0.500: -0.016"]),
    ],
)
def test_sentences_follow_the_numbers(base, trained, said):
    """The sentences tell elicitation, creation, a crossover, a loss and chance apart."""
    text = " ".join(sentences(change("all", 16, base, trained)))
    for part in said:
        assert part in text, text


def test_numbers_as_text():
    """A difference has a sign; a missing number is empty, an unknown one a dash."""
    assert words(Estimate(0.1, -0.05, 0.2), 2, sign=True) == "+0.10 (-0.05…+0.20)"
    assert words(0.25) == "0.250"
    assert words(None) == ""
    assert words(Estimate(float("nan"), 0, 0)) == "–"


def test_an_unwritable_path_is_an_error(tmp_path):
    """A report that can't be written raises OutputError."""
    with pytest.raises(OutputError, match="can't be written"):
        write_page(tmp_path / "none/eval.html", [{}], [model_answers("m", [[True]])], [])


def test_two_models_without_a_right_answer_are_not_ahead():
    """Neither of two models that solve nothing is called ahead, and nothing is newly solved."""
    text = " ".join(sentences(change("all", 8, [0] * 10, [0] * 10)))
    assert "neither model is ahead: both solve 0.000" in text
    assert "ahead by" not in text
    assert "newly solved" not in text


def test_the_header_names_the_models_and_the_facts(tmp_path):
    """The header has the model, and what the caller says of reward and date; the method of the intervals is named."""
    facts = {"reward": "math", "date": "2026-01-01"}
    page = write_page(tmp_path / "eval.html", [{}], [model_answers("some/model", [[True]])], [], facts).read_text()
    for part in ("some/model", "2026-01-01", "Wilson score interval", "percentile bootstrap over problems"):
        assert part in page


@pytest.mark.parametrize("is_cut", [True, False])
def test_answers_that_were_all_cut_off_are_a_warning(tmp_path, is_cut):
    """The warning names the key to raise."""
    answers = [Answer(0, 0, False, 0.0, {}, 4, is_cut=is_cut, answer=None, text="")]
    page = write_page(tmp_path / "eval.html", [{}], [ModelAnswers("m", [Prompt((1,), "?", {}, "")], answers)], [])
    assert ("rollout.max_new_tokens" in page.read_text()) is is_cut
