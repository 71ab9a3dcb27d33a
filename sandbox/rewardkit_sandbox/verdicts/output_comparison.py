"""Compares outputs and values outside of the sandbox. No code of the program runs here."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import Any, Literal

Types = Literal["python", "json", "strict"]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)


_LONGEST_NUMBER = 1000
"""Longer words are not matched, because the pattern takes quadratic time for a word that is almost a number."""


def same_output(actual: str | bytes, expected: str, *, float_tolerance: float | None = None) -> bool:
    """Return True if two outputs have the same words on the same lines.

    Spaces at line ends, blank lines at the end, and the amount of space between words are ignored. Output with NUL bytes, and output
    that is not UTF-8, never matches.

    Args:
        actual: The output of the program.
        expected: The expected output.
        float_tolerance: The largest difference of two numbers, absolute or relative to the expected one. Integers must be equal. None
            compares numbers as text.
    """
    if isinstance(actual, bytes):
        try:
            actual = actual.decode()
        except UnicodeDecodeError:
            return False
    if "\0" in actual:
        return False
    ours, theirs = actual.rstrip().split("\n"), expected.rstrip().split("\n")
    if len(ours) != len(theirs):
        return False
    return all(_same_line(a, b, float_tolerance) for a, b in zip(ours, theirs, strict=True))


def _same_line(actual: str, expected: str, tolerance: float | None) -> bool:
    if actual == expected:
        return True
    ours, theirs = actual.split(), expected.split()
    return len(ours) == len(theirs) and all(
        a == b or (tolerance is not None and _same_number(a, b, tolerance)) for a, b in zip(ours, theirs, strict=True)
    )


def _same_number(actual: str, expected: str, tolerance: float) -> bool:
    if _is_integer(actual) and _is_integer(expected):
        return int(actual) == int(expected) if len(actual) < 4000 > len(expected) else False
    if len(actual) > _LONGEST_NUMBER or not (_NUMBER.fullmatch(actual) and _NUMBER.fullmatch(expected)):
        return False
    if _is_integer(expected):
        return _close_to_integer(float(actual), int(expected), tolerance) if len(expected) < _LONGEST_NUMBER else False
    return close(float(actual), float(expected), tolerance)


def _is_integer(word: str) -> bool:
    return word.lstrip("+-").isdecimal() and word.isascii()


def _close_to_integer(actual: float, expected: int, tolerance: float) -> bool:
    """Return True if a float equals an expected integer.

    One that is an integer itself must be that one: 1000000500.0 is not 1000000000, whatever the tolerance. Any other may be off by
    the tolerance, absolutely: 2.9999999 is 3.
    """
    if not math.isfinite(actual):
        return False
    if actual.is_integer():
        return int(actual) == expected
    return abs(Fraction(actual) - expected) <= min(tolerance, 0.5)


def close(actual: float, expected: float, tolerance: float) -> bool:
    """|actual - expected| ≤ tolerance · max(1, |expected|); infinities only equal themselves, nan equals nan."""
    if math.isnan(expected):
        return math.isnan(actual)
    if math.isinf(expected) or math.isinf(actual):
        return actual == expected
    return abs(actual - expected) <= tolerance * max(1.0, abs(expected))


def same_value(actual: Any, expected: Any, *, types: Types = "python", float_tolerance: float | None = None) -> bool:
    """Return True if a value equals the expected one.

    Args:
        actual: The value that the program returned, in builtin types.
        expected: The expected value.
        types: `python` compares like `==` (1 == 1.0 == True, but no list equals a tuple). `json` does not accept a bool as a number, and
            treats tuples and lists alike. `strict` requires equal types everywhere.
        float_tolerance: The largest difference of two floats, absolute or relative. Integers must be equal.
    """
    try:
        return _same(actual, expected, types, float_tolerance)
    except (RecursionError, OverflowError, ArithmeticError, TypeError):
        return False


def _same(actual: Any, expected: Any, types: Types, tolerance: float | None) -> bool:
    if types == "strict" and type(actual) is not type(expected):
        return False
    if types == "json" and isinstance(actual, bool) != isinstance(expected, bool):
        return False
    sequences = (list, tuple)
    if isinstance(expected, sequences):
        alike = sequences if types == "json" else (list if isinstance(expected, list) else tuple)
        if not isinstance(actual, alike) or len(actual) != len(expected):
            return False
        return all(_same(a, b, types, tolerance) for a, b in zip(actual, expected, strict=True))
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or not _same_keys(actual, expected, types):
            return False
        return all(_same(actual[key], value, types, tolerance) for key, value in expected.items())
    if isinstance(expected, AbstractSet):
        return isinstance(actual, AbstractSet) and _same_keys(actual, expected, types)
    if isinstance(expected, float) and isinstance(actual, float) and math.isnan(expected):
        return math.isnan(actual)
    numbers = isinstance(expected, (int, float)) and isinstance(actual, (int, float))
    if tolerance is not None and numbers and (isinstance(expected, float) or isinstance(actual, float)):
        if isinstance(expected, int):
            return _close_to_integer(float(actual), expected, tolerance)
        return close(float(actual), float(expected), tolerance)
    return bool(actual == expected)


def _same_keys(actual: Collection[Any], expected: Collection[Any], types: Types) -> bool:
    """Return whether two sets, or the keys of two dictionaries, are equal; `{True}` is `{1}` only for `types="python"`."""
    if len(actual) != len(expected):
        return False
    own = {key: key for key in actual}
    return all(key in own and _same(own[key], key, types, None) for key in expected)


def show(value: Any, width: int = 80) -> str:
    """Return a short text for a value of any size.

    Args:
        value: The value.
        width: The largest number of characters.
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # An integer with too many digits, or a value nested too deeply.
        text = f"<a {type(value).__name__} too large to show>"
    return text if len(text) <= width else text[: width - 1] + "…"
