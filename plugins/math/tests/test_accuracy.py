"""Accuracy on labelled data has minimum values, and no wrong answer is called right."""

import importlib.util
from pathlib import Path

import pytest
from rewardkit_math import verify

_spec = importlib.util.spec_from_file_location("rewardkit_math_data", Path(__file__).with_name("math_data.py"))
data = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(data)

FLOORS = {
    "mathverify_cases": 1.0,
    "peer_cases/core": 1.0,
    "peer_cases/qwen": 1.0,
    "math5000_derived": 0.9998,
    "adversarial_cases": 0.99,
    "gsm8k": 1.0,
    "cot": 1.0,
}
"""The least share of rows on which verdict and label agree, without rows whose label is disputed."""

DISPUTED = {"mathverify_cases": 2, "peer_cases/qwen": 5, "cot": 9}
"""The largest number of disputed labels; `math_data.disputed` gives the reason for each."""


@pytest.mark.parametrize("name", FLOORS)
def test_accuracy(name):
    """On every labelled set the verdicts agree with the labels, and no wrong answer is called right."""
    cases = data.cases(name)
    if cases is None:
        pytest.skip(f"no data in {data.DATA} (set REWARDKIT_DATA)")
    decided = [(p, r, e, row) for p, r, e, row in cases if e is not None]
    disputed = 0
    wrong = []
    for prediction, reference, expected, row in decided:
        verdict = verify(prediction, reference, deadline_s=20)
        if verdict.correct is not expected:
            if data.disputed(row, expected):
                disputed += 1
            else:
                wrong.append((expected, verdict.correct, verdict.reason))
    assert disputed <= DISPUTED.get(name, 0)
    assert not [w for w in wrong if w[1] is True], "false positives"
    assert len(wrong) <= (1 - FLOORS[name]) * len(decided), wrong


def test_hardly_any_row_needs_the_symbolic_tier():
    """Under 0.5 % of the rows made from answers of the MATH data set reach the worker process."""
    cases = data.cases("math5000_derived")
    if cases is None:
        pytest.skip(f"no data in {data.DATA} (set REWARDKIT_DATA)")
    tiers = [verify(p, r).tier for p, r, _, _ in cases]
    assert tiers.count("symbolic") < 0.005 * len(tiers)
