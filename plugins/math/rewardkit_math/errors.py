"""What can go wrong while an answer is read or compared.

MathError
├── ParseError     the text is no expression that the parser knows
├── TooLarge       the work would exceed a size guard: a power, a factorial, a nesting, a number of tokens
├── Undecided      the numbers cannot be told apart, or a value cannot be bounded
│   └── Unbounded  a number that no tier can compute
└── Undefined      a division by zero, a logarithm of zero
"""

from __future__ import annotations


class MathError(Exception):
    """The root of the tree."""


class ParseError(MathError):
    """The text is no expression that the parser knows."""


class TooLarge(MathError):  # noqa: N818 - a size guard, told apart from errors in the input
    """The work would exceed a size guard."""


class Undecided(MathError):  # noqa: N818 - a third outcome beside equal and different
    """The comparison has no certain outcome at this tier."""


class Unbounded(Undecided):
    """A number is too large for every tier: nothing is gained by asking another."""


class Undefined(MathError):  # noqa: N818 - a property of the value
    """The expression has no value."""
