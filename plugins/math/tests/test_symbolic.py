"""Comparisons that only the symbolic tier decides."""

import os
import subprocess
import sys

import pytest
from rewardkit_math import symbolic, verify
from rewardkit_math.symbolic import pool

CASES = [
    (r"\int_0^1 x^2\,dx", "1/3", True),
    (r"\int_0^1 x^2\,dx", "1/4", False),
    (r"\sum_{k=1}^\infty \frac{1}{k^2}", r"\frac{\pi^2}{6}", True),
    (r"\sum_{k=1}^\infty \frac{1}{k^2}", r"\frac{\pi^2}{7}", False),
    (r"\int 2x\,dx", "x^2 + C", True),
    (r"\lim_{x \to 0} \frac{\sin x}{x}", "1", True),
    (r"\sum_{k=1}^n k", r"\frac{n(n+1)}{2}", True),
    (r"(\int_0^1 x\,dx, 2)", "(0.5, 2)", True),
]


@pytest.mark.parametrize(("prediction", "reference", "expected"), CASES)
def test_calculus(prediction, reference, expected):
    """Integrals, infinite sums and limits are evaluated."""
    assert verify(prediction, reference, deadline_s=60).correct is expected


def test_without_the_symbolic_tier_it_is_not_shown():
    """Without the symbolic tier, such a prediction is wrong, and such a reference gives no verdict."""
    assert verify(*CASES[0][:2], symbolic=False).correct is False
    assert verify("1/3", CASES[0][0], symbolic=False).correct is None


@pytest.mark.parametrize(("failures", "correct", "failure"), [(1, True, ""), (2, None, "timeout")])
def test_a_time_out_is_tried_again_once(monkeypatch, failures, correct, failure):
    """A comparison that runs out of time is repeated with another worker; only the second time-out leaves it without a verdict."""
    outcomes = [symbolic.WorkerTimeout()] * failures + [True]
    asked = []

    def answer(*_):
        asked.append(1)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(symbolic, "same", answer)
    verdict = verify(*CASES[0][:2])
    assert (verdict.correct, verdict.failure) == (correct, failure)
    assert len(asked) == 2


def test_the_start_of_a_worker_does_not_count():
    """The first question gets its whole deadline, which is shorter than the import of sympy takes."""
    pool._workers.close()
    assert verify(*CASES[0][:2], deadline_s=1.0).correct is True


def test_the_deadline_is_cpu_time():
    """Workers that share the processors with many other processes still have their whole deadline."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        verdicts = [verify(a, b, deadline_s=1.0).correct for a, b, _ in CASES[:3]]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert verdicts == [expected for _, _, expected in CASES[:3]]
