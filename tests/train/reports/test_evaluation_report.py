"""The page of an evaluation says in words what the figures mean, and lets no completion become HTML."""

from __future__ import annotations

import pytest

from rewardkit.errors import OutputError
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.evaluation.answers import Answer, Exam
from rewardkit.train.evaluation.pass_at_k import change, compare
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.reports.evaluation_report import sentences, words, write_page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def exam(model, rights):
    """An exam on hostile prompts with hostile answers."""
    prompts = [Prompt((1,), f"{number} {HOSTILE}", {}, "") for number in range(len(rights))]
    answers = [
        Answer(prompt, place, right, float(right), {}, 1, is_cut=False, answer=None, text=HOSTILE)
        for prompt, verdicts in enumerate(rights)
        for place, right in enumerate(verdicts)
    ]
    return Exam(model, prompts, answers)


def test_a_comparison_is_drawn(tmp_path):
    """Curves of the whole and of each class, differences, and the problems that changed; all text is only text."""
    base = exam("a/base", [[False] * 4, [True, True, False, False], [True] * 4])
    trained = exam("b/<b>", [[True] * 4, [True] * 4, [False] * 4])
    changes = compare(base, trained, {0: "<i>", 1: "easy", 2: "easy"})
    figures = [{"pass@1": change_.base[0]} for change_ in changes[:1]] * 2
    page = write_page(tmp_path / "eval.html", figures, [base, trained], changes).read_text()
    assert page.count("<svg") == 3
    assert "trained: b/&lt;b&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "0 of 4 right" in page
    assert "Solved by some sample of the base model, and by none of the trained one" in page


def test_one_model_has_its_figures(tmp_path):
    """And nothing is compared."""
    page = write_page(tmp_path / "eval.html", [{"pass@1": Estimate(0.5, 0.4, 0.6)}], [exam("m", [[True]])], [])
    assert "0.500 (0.400…0.600)" in page.read_text()
    assert "<svg" not in page.read_text()


@pytest.mark.parametrize(
    ("base", "trained", "said"),
    [
        ([8] * 50 + [0] * 50, [16] * 50 + [0] * 50, ["100% of that", "luck may explain", "still ahead by 0.0"]),
        ([0] * 60 + [16] * 40, [8] * 60 + [16] * 40, ["luck does not explain that: right answers came within reach"]),
        (
            [4] * 100,
            [16] * 60 + [0] * 40,
            ["on the base model is ahead; at k = 16 by 0.4", "luck alone would find more"],
        ),
        ([8] * 100, [4] * 60 + [0] * 40, ["The base model is ahead at every k up to 16"]),
        ([8, 8, 8, 9], [8, 8, 8, 8], ["pass@1 went from 0.516 to 0.500: -0.016"]),
    ],
)
def test_words_follow_the_figures(base, trained, said):
    """Elicitation, creation, a crossover, a loss, hardly anything."""
    text = " ".join(sentences(change("all", 16, base, trained)))
    for part in said:
        assert part in text, text


def test_figures_are_words():
    """With a sign where it is a difference; what is not there is empty, what can't be said a dash."""
    assert words(Estimate(0.1, -0.05, 0.2), 2, sign=True) == "+0.10 (-0.05…+0.20)"
    assert words(0.25) == "0.250"
    assert words(None) == ""
    assert words(Estimate(float("nan"), 0, 0)) == "–"


def test_a_place_that_can_not_be_written_to_is_told(tmp_path):
    """As an error of output."""
    with pytest.raises(OutputError, match="can't be written"):
        write_page(tmp_path / "none/eval.html", [{}], [exam("m", [[True]])], [])
