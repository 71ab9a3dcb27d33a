r"""Decides whether a completion's final answer equals a reference answer.

    >>> from rewardkit_math import verify
    >>> verify(r"So the probability is $\boxed{\frac{2}{4}}$.", "0.5").correct
    True

Three parts, each usable alone: `extract` finds the answer in a text, `parse` makes an expression of it, `verify` does both for two
sides and compares them. Comparisons that the library's own tiers leave open are decided by sympy in a worker process.
"""

from rewardkit_math.errors import MathError, ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.extraction import Answer, extract
from rewardkit_math.parsing import parse
from rewardkit_math.policy import Policy
from rewardkit_math.verify import Verdict, verify, verify_async

__all__ = [
    "Answer",
    "Expr",
    "MathError",
    "ParseError",
    "Policy",
    "Verdict",
    "extract",
    "parse",
    "verify",
    "verify_async",
]
