"""The exact value of a literal of digits."""

from __future__ import annotations

import re
from fractions import Fraction

from rewardkit_math.errors import TooLarge

MAX_DIGITS = 3_000
"""Longer literals are refused (the conversion of decimal digits is quadratic)."""
_DECIMAL_COMMA = re.compile(r"\d+\{,\}(?:\d{1,2}|\d{4,9})")
_GROUPING = re.compile(r"\s?\{,\s?\}\s?|,\\!\s*|\\,|\\!\s?,?|\\ |~|[, ]")
_REPEAT = re.compile(r"^(.*?)(?:\\(?:overline|bar|dot)\s*\{(\d+)\}|\((\d+)\))$", re.DOTALL)
_DOTS = re.compile(r"(?:\.{2,3}|\s?\\[lc]?dots)$")


def number(text: str) -> tuple[int | Fraction, int | None]:
    """Return the exact value of a numeral, and its digits after the decimal point (None: an integer or a repeating decimal)."""
    if text.isdigit():
        if len(text) > MAX_DIGITS:
            raise TooLarge(f"a number of {len(text)} digits")
        return int(text), None
    if len(text) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(text)} digits")
    if "{,}" in text and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace("{,}", ".")
    if "," in text and "." in text and text.rfind(",") > text.find("."):
        text = text.replace(".", "").replace(",", ".")
    exponent = 0
    repeat = ""
    if match := _REPEAT.match(text):
        text, repeat = match[1], match[2] or match[3]
    elif match := _DOTS.search(text):
        text = text[: match.start()]
        repeat = _period(text)
    elif match := re.search(r"[eE]([+-]?\d+)$", text):
        exponent = int(match[1])
        text = text[: match.start()]
        if abs(exponent) > MAX_DIGITS:
            raise TooLarge(f"an exponent of {exponent}")
    whole, _, decimals = text.partition(".")
    whole = _GROUPING.sub("", whole) or "0"
    scale = len(decimals)
    value: int | Fraction = int(whole + decimals)
    if repeat:
        value = Fraction(value * (10 ** len(repeat) - 1) + int(repeat), 10**scale * (10 ** len(repeat) - 1))
        return value, None
    if scale or exponent:
        value = value * Fraction(10) ** (exponent - scale)
        value = value.numerator if value.denominator == 1 else value
        return value, max(scale - exponent, 0)
    return value, None


def _period(text: str) -> str:
    """Return the digits that `0.333…` or `0.1818…` repeats: the shortest tail that occurs at least twice (thrice for one digit)."""
    decimals = text.partition(".")[2]
    for length in range(1, len(decimals) // 2 + 1):
        tail = decimals[-length:]
        if decimals.endswith(tail * (3 if length == 1 else 2)):
            return tail
    return ""
