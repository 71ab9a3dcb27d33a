"""Comparisons that only the symbolic tier decides."""

import pytest
from rewardkit_math import verify

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
    """Integrals, infinite sums and limits are worked out."""
    assert verify(prediction, reference, deadline_s=60).correct is expected


def test_without_the_symbolic_tier_it_is_not_shown():
    """Switched off, such a prediction is not shown to be right, and such a reference gives no verdict."""
    assert verify(*CASES[0][:2], symbolic=False).correct is False
    assert verify("1/3", CASES[0][0], symbolic=False).correct is None
