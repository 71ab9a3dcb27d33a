"""Exact values of functions; a function without an exact value is an atom."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction

from rewardkit_math.errors import Undecided, Undefined
from rewardkit_math.expr import Expr
from rewardkit_math.normal.poly import (
    CONST,
    Number,
    Poly,
    add,
    as_rational,
    constant,
    content,
    key,
    leading,
    multiply,
    proportion,
    scale,
)
from rewardkit_math.normal.powers import factored, integer_power, positive, power, root, root_of_number

MAX_FACTORIAL = 1200


class Functions(ABC):
    """Values of `fn` nodes; `__call__` is the normal form of an argument."""

    log: str
    angle: bool

    @abstractmethod
    def __call__(self, expr: Expr) -> Poly:
        """Return the normal form of `expr`."""

    def _fn(self, expr: Expr) -> Poly:
        name = expr.args[0]
        arguments = expr.args[1:]
        special = getattr(self, f"_fn_{name}", None)
        if special is not None:
            result: Poly = special(*arguments)
            return result
        if name in _TRIG:
            outer, self.angle = self.angle, True
            try:
                argument = self(arguments[0])
            finally:
                self.angle = outer
            return _trigonometric(name, argument)
        return self._opaque(name, *arguments)

    def _opaque(self, name: str, *arguments: Expr) -> Poly:
        return {((f"{name}({','.join(key(self(a)) for a in arguments)})", 1),): 1}

    def _rationals(self, arguments: tuple[Expr, ...]) -> list[Number] | None:
        values = [as_rational(self(a)) for a in arguments]
        return [v for v in values if v is not None] if all(v is not None for v in values) else None

    def _fn_sqrt(self, x: Expr, index: Expr | None = None) -> Poly:
        return root(self(x), Fraction(1, 2)) if index is None else self._fn_root(x, index)

    def _fn_root(self, x: Expr, index: Expr) -> Poly:
        n = as_rational(self(index))
        if not n:
            raise Undecided("a root with a symbolic index")
        return power(self(x), constant(Fraction(1) / n))

    def _fn_abs(self, x: Expr) -> Poly:
        poly = self(x)
        value = as_rational(poly)
        if value is not None:
            return constant(value if value > 0 else -value)
        if len(poly) == 1:
            ((mono, c),) = poly.items()
            if all(positive(atom) for atom, _ in mono):
                return {mono: c if c > 0 else -c}
            if len(mono) == 1 and mono[0][1] == 1 and "(" not in mono[0][0] and mono[0][0] != "i":
                return {((f"|{mono[0][0]}|", 1),): c if c > 0 else -c}
        size = content(poly)
        primitive = scale(poly, 1 / Fraction(size if leading(poly) > 0 else -size))
        return multiply(constant(size), {((f"abs({key(primitive)})", 1),): 1})

    def _fn_fact(self, x: Expr) -> Poly:
        n = as_rational(self(x))
        if isinstance(n, int):
            if n < 0:
                raise Undefined("the factorial of a negative number")
            if n <= MAX_FACTORIAL:
                return constant(math.factorial(n))
        return self._opaque("fact", x)

    def _fn_dfact(self, x: Expr) -> Poly:
        n = as_rational(self(x))
        if isinstance(n, int) and 0 <= n <= MAX_FACTORIAL:
            return constant(math.prod(range(n, 0, -2)))
        return self._opaque("dfact", x)

    def _fn_binom(self, n: Expr, k: Expr) -> Poly:
        values = self._rationals((n, k))
        if values is not None:
            top, bottom = values
            if isinstance(top, int) and isinstance(bottom, int) and 0 <= top <= 10_000:
                return constant(math.comb(top, bottom) if bottom >= 0 else 0)
        return self._opaque("binom", n, k)

    def _fn_floor(self, x: Expr) -> Poly:
        value = as_rational(self(x))
        return constant(math.floor(value)) if value is not None else self._opaque("floor", x)

    def _fn_ceil(self, x: Expr) -> Poly:
        value = as_rational(self(x))
        return constant(math.ceil(value)) if value is not None else self._opaque("ceil", x)

    def _fn_sgn(self, x: Expr) -> Poly:
        value = as_rational(self(x))
        return constant((value > 0) - (value < 0)) if value is not None else self._opaque("sgn", x)

    def _fn_gcd(self, *arguments: Expr) -> Poly:
        return self._integers("gcd", arguments, math.gcd)

    def _fn_lcm(self, *arguments: Expr) -> Poly:
        return self._integers("lcm", arguments, math.lcm)

    def _fn_mod(self, x: Expr, n: Expr) -> Poly:
        values = self._rationals((x, n))
        if values is None:
            return self._opaque("mod", x, n)
        if not values[1]:
            raise Undefined("division by zero")
        return constant(values[0] % values[1])

    def _fn_max(self, *arguments: Expr) -> Poly:
        values = self._rationals(arguments)
        return constant(max(values)) if values else self._opaque("max", *arguments)

    def _fn_min(self, *arguments: Expr) -> Poly:
        values = self._rationals(arguments)
        return constant(min(values)) if values else self._opaque("min", *arguments)

    def _fn_ln(self, x: Expr) -> Poly:
        poly = self(x)
        if len(poly) == 1:
            ((mono, c),) = poly.items()
            if c > 0 and all(atom == "e" or atom[0] == "#" for atom, _ in mono):
                result: Poly = {}
                for atom, exponent in mono:
                    term: Poly = {CONST: exponent} if atom == "e" else {((f"ln({atom[1:]})", 1),): exponent}
                    result = add(result, term)
                for part, sign in ((c.numerator, 1), (c.denominator, -1)):
                    factors = factored(part)
                    if factors is None:
                        return self._opaque("ln", x)
                    for prime, count in factors.items():
                        result = add(result, {((f"ln({prime})", 1),): sign * count})
                return result
            if mono == () and not c:
                raise Undefined("the logarithm of zero")
        if not poly:
            raise Undefined("the logarithm of zero")
        return self._opaque("ln", x)

    def _fn_log(self, x: Expr, base: Expr | None = None) -> Poly:
        if base is None:
            if self.log == "e":
                return self._fn_ln(x)
            if self.log == "":
                return multiply(self._fn_ln(x), {(("log()", -1),): 1})
            base = Expr("num", 10, None)
        bottom = self._fn_ln(base)
        if not bottom:
            raise Undefined("a logarithm to base 1")
        top = self._fn_ln(x)
        ratio = proportion(top, bottom)
        return constant(ratio) if ratio is not None else multiply(top, integer_power(bottom, -1))

    def _integers(self, name: str, arguments: tuple[Expr, ...], function: Callable[..., int]) -> Poly:
        values = self._rationals(arguments)
        if values is None or not all(isinstance(v, int) for v in values):
            return self._opaque(name, *arguments)
        return constant(function(*values))


_TRIG = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])
_EXACT_TRIG: dict[Fraction, tuple[int, int, int]] = {  # x/π → sin x = a·√b/c, for x in [0, π/2]
    Fraction(0): (0, 1, 1), Fraction(1, 6): (1, 1, 2), Fraction(1, 4): (1, 2, 2), Fraction(1, 3): (1, 3, 2), Fraction(1, 2): (1, 1, 1),
}  # fmt: skip


def _trigonometric(name: str, argument: Poly) -> Poly:
    """Return sin x, cos x … for x in normal form: exact at multiples of π/4 and π/6, else an atom with its sign taken out."""
    turn: Number | None = None
    if not argument:
        turn = 0
    elif len(argument) == 1:
        turn = argument.get((("π", 1),))
    if turn is not None and (turn * 12).denominator == 1:
        sine, cosine = _sine(Fraction(turn)), _sine(Fraction(turn) + Fraction(1, 2))
        if sine is not None and cosine is not None:
            if name == "sin":
                return sine
            if name == "cos":
                return cosine
            top, bottom = {
                "tan": (sine, cosine),
                "cot": (cosine, sine),
                "sec": (constant(1), cosine),
                "csc": (constant(1), sine),
            }[name]
            if not bottom:
                raise Undefined(f"{name} at a pole")
            return multiply(top, integer_power(bottom, -1))
    sign = 1
    if argument and leading(argument) < 0:
        argument = scale(argument, -1)
        sign = 1 if name in ("cos", "sec") else -1
    return {((f"{name}({key(argument)})", 1),): sign}


def _sine(turn: Fraction) -> Poly | None:
    turn %= 2
    sign = 1
    if turn >= 1:
        turn, sign = turn - 1, -1
    if turn > Fraction(1, 2):
        turn = 1 - turn
    exact = _EXACT_TRIG.get(turn)
    if exact is None:
        return None
    numerator, radicand, denominator = exact
    return scale(root_of_number(radicand, Fraction(1, 2)), Fraction(sign * numerator, denominator))
