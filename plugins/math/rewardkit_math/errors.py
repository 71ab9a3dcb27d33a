"""Errors of reading and comparing answers.

MathError
├── ParseError     the parser can't read the text as an expression
├── TooLarge       the work would exceed a size guard: a power, a factorial, a nesting, a number of tokens
├── Undecided      the numbers cannot be told apart, or a value cannot be bounded
│   └── Unbounded  a number that no tier can compute
└── Undefined      a division by zero, a logarithm of zero
"""

from __future__ import annotations


class MathError(Exception):
    """The base class of this library's errors."""


class ParseError(MathError):
    """The parser can't read the text as an expression."""


class TooLarge(MathError):  # noqa: N818 - a size guard, told apart from errors in the input
    """The work would exceed a size guard."""


class Undecided(MathError):  # noqa: N818 - a third outcome beside equal and different
    """The comparison has no certain outcome at this tier."""


class Unbounded(Undecided):
    """A number is too large for every tier, so that no further tier is asked."""


class Undefined(MathError):  # noqa: N818 - a property of the value
    """The expression has no value."""
