r"""Labelled pairs of our own, in every notation: `cases.jsonl`, one per row, labelled before their first run."""

import json
from pathlib import Path

import pytest
from rewardkit_math import verify

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()]


def misjudged(cases, kind):
    """Return the line, the pair and the verdict of each case of a kind whose verdict is not its label."""
    found = []
    for line, c in enumerate(cases, 1):
        if c["kind"] == kind:
            verdict = verify(c["prediction"], c["reference"], symbolic=False)
            if verdict.correct is not c["correct"]:
                found.append((line, c["prediction"], c["reference"], verdict.reason))
    return found


@pytest.mark.parametrize("kind", sorted({c["kind"] for c in CASES}))
def test_case(kind):
    """The verdicts equal the labels."""
    assert misjudged(CASES, kind) == []


@pytest.mark.parametrize("kind", sorted({c["kind"] for c in CASES} - {"full solutions", "hedges"}))
def test_either_side_may_be_the_reference(kind):
    """Verdicts on bare answers don't change if the sides are exchanged or an answer is put in a box."""
    for case in CASES:
        if case["kind"] == kind:
            a, b = case["prediction"], case["reference"]
            back = verify(b, a, symbolic=False).correct
            assert back is True if case["correct"] else back is not True, (b, a)
            if "boxed" not in a and "$" not in a.replace("\\$", ""):
                assert verify(f"So it is \\boxed{{{a}}}.", b, symbolic=False).correct is case["correct"], (a, b)


def test_no_row_is_repeated():
    """No pair occurs twice, and each kind has right and wrong answers."""
    pairs = [(c["prediction"], c["reference"]) for c in CASES]
    assert len(set(pairs)) == len(pairs)
    kinds = {c["kind"] for c in CASES} - {"hedges", "notation slips"}
    for kind in kinds:
        assert {c["correct"] for c in CASES if c["kind"] == kind} == {True, False}, kind


KINDS = [json.loads(line) for line in Path(__file__).with_name("kinds.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", sorted({c["kind"] for c in KINDS}))
def test_kind(kind):
    """Units, words, clauses, boxes, choices, constants and the like are compared as labelled."""
    assert misjudged(KINDS, kind) == []


def test_each_kind_has_right_and_wrong_answers():
    """No pair of the kinds occurs twice, and all but a few kinds have wrong answers among their pairs."""
    pairs = [(c["prediction"], c["reference"]) for c in KINDS]
    assert len(set(pairs)) == len(pairs)
    for kind in {c["kind"] for c in KINDS} - {"unicode"}:
        assert {c["correct"] for c in KINDS if c["kind"] == kind} == {True, False}, kind


@pytest.mark.parametrize(
    "reference",
    ["NaN", "null", '{"answer": "42"}', '[{"answer": 42}]', "What is the sum of the first ten positive integers?",
     "9. Mia walks up one floor while Leo walks up five floors, so Leo's way is five times as long.", "slope $3$ through $(0,1)$"],
)  # fmt: skip
def test_a_reference_that_is_no_answer_is_not_scored(reference):
    """Missing values, JSON, questions, and sentences give no verdict about an answer of another form."""
    verdict = verify(r"\boxed{42}", reference)
    assert (verdict.correct, verdict.failure) == (None, "reference")


def test_a_chosen_tolerance_is_relative_for_every_number():
    """`tolerance: 0.05` accepts 5 % for integers, too."""
    assert verify("104", "100", tolerance=0.05).correct is True
    assert verify("106", "100", tolerance=0.05).correct is False
    assert verify("104", "100").correct is False
