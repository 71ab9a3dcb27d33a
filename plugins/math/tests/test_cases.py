r"""Labelled pairs of our own, in every notation: `cases.jsonl`, a row for each, labelled before it was first run."""

import json
from pathlib import Path

import pytest
from rewardkit_math import verify

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("prediction", "reference", "correct"),
    [
        pytest.param(c["prediction"], c["reference"], c["correct"], id=f"{c['kind']}-{number}")
        for number, c in enumerate(CASES, 1)
    ],
)
def test_case(prediction, reference, correct):
    """The verdict is the label."""
    assert verify(prediction, reference, symbolic=False).correct is correct


@pytest.mark.parametrize("kind", sorted({c["kind"] for c in CASES} - {"full solutions", "hedges"}))
def test_either_side_may_be_the_reference(kind):
    """Bare answers are judged alike the other way round, and in a box as well as bare."""
    for case in CASES:
        if case["kind"] == kind:
            a, b = case["prediction"], case["reference"]
            back = verify(b, a, symbolic=False).correct
            assert back is True if case["correct"] else back is not True, (b, a)
            if "boxed" not in a and "$" not in a.replace("\\$", ""):
                assert verify(f"So it is \\boxed{{{a}}}.", b, symbolic=False).correct is case["correct"], (a, b)


def test_every_row_is_of_its_own():
    """No pair is there twice, and each kind has right and wrong answers."""
    pairs = [(c["prediction"], c["reference"]) for c in CASES]
    assert len(set(pairs)) == len(pairs)
    kinds = {c["kind"] for c in CASES} - {"hedges", "notation slips"}
    for kind in kinds:
        assert {c["correct"] for c in CASES if c["kind"] == kind} == {True, False}, kind
