"""Equality of two expressions as numbers, as functions, or up to a constant factor, decided by values with error bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

from rewardkit_math.errors import MathError, TooLarge, Unbounded, Undecided, Undefined
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.numeric.arithmetic import D0, ERR, Ball, HugeError
from rewardkit_math.numeric.evaluator import Budget, Evaluator

DIGITS = 30
CONFIRM_DIGITS = 100
MAX_DIGITS = 1000
_CLOSE = Decimal("1e-40")
"""Two numbers whose values are as close as this are equal; nothing that a person writes is closer."""
_WIDE = Context(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])


def distance(a: Ball, b: Ball) -> tuple[Decimal, Decimal]:
    """Return a lower bound on |a − b|, and the sum of both error bounds."""
    slack = ERR.add(a[2], b[2])
    re = _WIDE.subtract(a[0], b[0]).copy_abs()
    im = _WIDE.subtract(a[1] or D0, b[1] or D0).copy_abs()
    return _WIDE.subtract(max(re, im), slack), slack


def value(expr: Expr, digits: int = DIGITS, log: str = "e") -> Ball:
    """Return the value of an expression without variables."""
    try:
        return Evaluator(digits, {}, log)(expr)
    except HugeError:
        raise Unbounded("a number beyond all bounds") from None


def _evaluated(expr: Expr, digits: int, point: dict[str, Fraction | int], log: str, budget: Budget) -> Ball | None:
    """Return the value, or None if it is huge."""
    try:
        return Evaluator(digits, point, log, budget)(expr)
    except HugeError:
        return None


def same_number(a: Expr, b: Expr, log: str = "e") -> bool:
    """Return whether two expressions without variables are equal.

    Raises:
        Undecided: Their values can't be bounded well enough.
        Undefined: One of them has no value.
    """
    budget = Budget()
    digits = DIGITS
    while True:
        left, right = _evaluated(a, digits, {}, log, budget), _evaluated(b, digits, {}, log, budget)
        if left is None or right is None:
            if left is right:
                raise Unbounded("two numbers beyond all bounds")
            return False
        gap, slack = distance(left, right)
        if gap > 0:
            return False
        if digits == DIGITS:
            digits = CONFIRM_DIGITS
        elif slack <= _CLOSE:
            return True
        else:  # a large number: see its digits behind the decimal point as well
            digits += slack.adjusted() - _CLOSE.adjusted() + 1
            if digits > MAX_DIGITS:
                raise Undecided("two numbers too close to tell apart")


def _points(names: list[str], integral: set[str], seed: int) -> Iterator[dict[str, Fraction | int]]:
    """Points to compare at: of each sign, small and large. The same for the same question."""
    state = seed & 0xFFFFFFFF

    def draw() -> int:
        nonlocal state
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        return state >> 8

    plans = ((1, 1, 4), (1, 0, 1), (-1, 0, 3), (0, 0, 4), (1, 3, 9), (0, 1, 2), (-1, 2, 7), (0, 5, 15))
    for sign, low, high in plans:
        point: dict[str, Fraction | int] = {}
        for name in names:
            if name in integral:
                point[name] = 1 + draw() % (4 + high)
                continue
            magnitude = Fraction(low) + Fraction(draw() % 99_991 + 1, 99_991) * (high - low)
            side = sign or (1 if draw() % 2 else -1)
            point[name] = side * magnitude
        yield point


def _integral(expr: Expr, found: set[str]) -> None:
    """Variables that only make sense as integers: under a factorial, in a binomial, the exponent of a negative number."""
    for node in expr.walk():
        if node.head == "fn" and node.args[0] in ("fact", "dfact", "binom", "gcd", "lcm", "mod"):
            for argument in node.args[1:]:
                found |= symbols(argument)
        elif node.head == "pow" and _negative(node.args[0]):
            found |= symbols(node.args[1])
        elif node.head == "big" and node.args[0] in ("sum", "prod"):
            for limit in node.args[2:4]:
                if limit is not None:
                    found |= symbols(limit)


def _negative(base: Expr) -> bool:
    if base.head == "const" and base.args[0] == "i":
        return True
    if symbols(base):
        return False
    try:
        number = value(base)
    except MathError:
        return False
    return number[1] is not None or number[0] < 0


def same_function(a: Expr, b: Expr, log: str = "e") -> bool:
    """Return whether two expressions agree for all real values of their variables, judged at several points.

    One point at which both are defined and differ refutes it for certain; so does a point where one is real and the other is not.

    Raises:
        Undecided: There are too few points at which both have a value.
    """
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return same_number(a, b, log)
    if len(names) > 40:
        raise TooLarge("an expression with too many variables")
    integral: set[str] = set()
    _integral(a, integral)
    _integral(b, integral)
    complex_numbers = "const:i" in a.features or "const:i" in b.features
    seed = zlib.crc32(repr(sorted((repr(a), repr(b)))).encode())
    agreed = 0
    budget = Budget()
    for point in _points(names, integral, seed):
        try:
            left, right = _evaluated(a, DIGITS, point, log, budget), _evaluated(b, DIGITS, point, log, budget)
        except (Undefined, Undecided):
            continue
        if left is None or right is None:
            if left is not right:
                return False
            continue
        if not complex_numbers:
            real = [v[1] is None or v[1].copy_abs() <= v[2] for v in (left, right)]
            if real[0] != real[1]:
                return False
            if not real[0]:
                continue
        gap, slack = distance(left, right)
        if gap > 0:
            return False
        magnitude = max(left[0].copy_abs(), (left[1] or D0).copy_abs(), right[0].copy_abs())
        if slack > ERR.multiply(max(magnitude, Decimal("1e-6")), Decimal("1e-12")):
            continue
        agreed += 1
        if agreed <= 2:
            try:
                exact = Evaluator(CONFIRM_DIGITS, point, log, budget)
                fine = distance(exact(a), exact(b))
            except (HugeError, Undefined, Undecided):
                continue
            if fine[0] > 0:
                return False
        elif agreed >= 5:
            break
    if agreed < 2:
        raise Undecided("too few points at which both sides have a value")
    return True


def same_proportion(a: Expr, b: Expr) -> bool:
    """Return whether a = c·b for a constant c ≠ 0, judged at several points.

    Raises:
        Undecided: There are too few points at which both have a value.
    """
    names = sorted(symbols(a) | symbols(b))
    seed = zlib.crc32(repr(sorted((repr(a), repr(b)))).encode())
    first: tuple[Ball, Ball] | None = None
    agreed = 0
    budget = Budget()
    for point in _points(names, set(), seed):
        evaluator = Evaluator(DIGITS, point, budget=budget)
        try:
            pair = (evaluator(a), evaluator(b))
        except (HugeError, Undefined, Undecided):
            continue
        if first is None:
            if all(v[0].copy_abs() > v[2] or (v[1] or D0).copy_abs() > v[2] for v in pair):
                first = pair
            continue
        gap, slack = distance(evaluator.mul(first[0], pair[1]), evaluator.mul(pair[0], first[1]))
        if gap > 0:
            return False
        agreed += slack < Decimal("1e-12")
    if agreed < 3:
        raise Undecided("too few points at which both sides have a value")
    return True
