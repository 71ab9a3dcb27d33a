"""Checks of a prediction's form: lowest terms, arithmetic carried out, number of decimal places."""

from __future__ import annotations

import math
import re

from rewardkit_math.expr import MINUS_ONE, Expr

_FRACTION = re.compile(r"\\[dtc]?frac\s*\{?\s*(-?\d+)\s*\}?\s*\{?\s*(-?\d+)\s*\}?|(?<![\d.])(\d+)\s*/\s*(\d+)(?![\d.])")


def unsimplified(expr: Expr, written: str) -> str | None:
    """Return the reason why an answer is not in simplest form, or None if it is.

    A number must be one numeral or one fraction in lowest terms (a mixed number counts); in an expression every fraction of integers
    must be in lowest terms, every root of an integer free of square factors, and no two numbers may stand to be added or multiplied.
    """
    for match in _FRACTION.finditer(written):
        top, bottom = (int(g) for g in match.groups() if g is not None)
        if math.gcd(top, bottom) != 1 or abs(bottom) == 1:
            return f"{match[0]} is not in lowest terms"
    for node in expr.walk():
        if node.head in ("add", "mul") and sum(_is_number(a) for a in node.args if a != MINUS_ONE) > 1:
            return "it contains arithmetic that is not carried out"
        if node.head == "pow" and node.args[0].head == node.args[1].head == "num":
            return "it contains a power that is not carried out"
        if (
            node.head == "fn"
            and node.args[0] in ("fact", "binom", "gcd", "lcm", "mod")
            and all(a.head == "num" for a in node.args[1:])
        ):
            return f"it contains a {node.args[0]} that is not carried out"
        if node.head == "fn" and node.args[0] == "sqrt" and node.args[1].head == "num":
            radicand = node.args[1].args[0]
            if not isinstance(radicand, int) or _has_square_factor(radicand):
                return "it contains a root that can be simplified"
    return None


def _is_number(expr: Expr) -> bool:
    return expr.head == "num" or (expr.head in ("div", "mul") and all(_is_number(a) for a in expr.args))


def _has_square_factor(value: int) -> bool:
    value = abs(value)
    if value < 2 or math.isqrt(value) ** 2 == value:
        return True
    return any(value % (d * d) == 0 for d in range(2, min(math.isqrt(value) + 1, 2000)))


def decimal_places(expr: Expr) -> int:
    """Return the number of digits after the decimal point of a numeral as written; 0 for anything else."""
    while expr.head in ("unit", "pct", "deg") or (
        expr.head == "mul" and len(expr.args) == 2 and expr.args[0].args[0] == -1
    ):
        expr = expr.args[-1] if expr.head == "mul" else expr.args[0]
    return expr.args[1] or 0 if expr.head == "num" else 0
