"""Conversion of expression trees to normal forms."""

# ruff: noqa: SLF001 - the dispatch table names methods of this module's class

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr, substitute
from rewardkit_math.normal.functions import Functions
from rewardkit_math.normal.poly import (
    CONST,
    MAX_TERMS,
    Poly,
    add,
    as_rational,
    constant,
    key,
    multiply,
    proportion,
    scale,
    whole,
)
from rewardkit_math.normal.powers import integer_power, power
from rewardkit_math.work import spend

MAX_SUM = 400


class Normalizer(Functions):
    r"""Convert expressions to normal form.

    Args:
        log: What a `\log` without a base means: "10", "e", or "" (an unknown base).
    """

    def __init__(self, log: str = "") -> None:
        self.log = log
        self.angle = False  # inside a trigonometric function, where ° is π/180
        self._known: dict[tuple[int, bool], tuple[Expr, Poly]] = {}

    def __call__(self, expr: Expr) -> Poly:
        """Return the normal form of `expr`.

        Raises:
            Undecided: It holds something that has none (a set, a relation, words).
            Undefined: It has no value (1/0).
            TooLarge: It would exceed a guard.
        """
        handler = _HANDLERS.get(expr.head)
        if handler is None:
            raise Undecided(f"no normal form for {expr.head}")
        if expr.head in _CHEAP:
            return handler(self, expr)
        at = (id(expr), self.angle)
        known = self._known.get(at)
        if known is None:
            spend(2)
            known = self._known[at] = (
                expr,
                handler(self, expr),
            )  # the expression is kept, so that its id stays its own
        return known[1]

    def _num(self, expr: Expr) -> Poly:
        value = expr.args[0]
        return {CONST: value} if value else {}

    def _sym(self, expr: Expr) -> Poly:
        return {((expr.args[0], 1),): 1}

    def _const(self, expr: Expr) -> Poly:
        name = expr.args[0]
        if name in ("pi", "e", "i"):
            return {(("π" if name == "pi" else name, 1),): 1}
        raise Undecided(f"no normal form for {name}")

    def _word(self, expr: Expr) -> Poly:
        result = constant(1)
        for letter in expr.args[0]:
            result = multiply(result, {((letter, 1),): 1})
        return result

    def _add(self, expr: Expr) -> Poly:
        if len(expr.args) > MAX_TERMS * 2:
            raise TooLarge("a sum of too many terms")
        result = dict(self(expr.args[0]))
        for term in expr.args[1:]:
            for mono, c in self(term).items():
                total = result.get(mono, 0) + c
                if total:
                    result[mono] = whole(total)
                else:
                    del result[mono]
            if len(result) > MAX_TERMS:
                raise TooLarge("a sum of too many terms")
        return result

    def _mul(self, expr: Expr) -> Poly:
        result = self(expr.args[0])
        for factor in expr.args[1:]:
            result = multiply(result, self(factor))
        return result

    def _div(self, expr: Expr) -> Poly:
        top, bottom = self(expr.args[0]), self(expr.args[1])
        if not bottom:
            raise Undefined("division by zero")
        value = as_rational(bottom)
        if value is not None:
            return scale(top, Fraction(1) / value)
        if len(bottom) > 1 and len(top) > 1:
            ratio = proportion(top, bottom)
            if ratio is not None:
                return constant(ratio)
        return multiply(top, integer_power(bottom, -1))

    def _pow(self, expr: Expr) -> Poly:
        base, exponent = expr.args
        if base.head == "fn" and base.args[0] == "abs" and exponent.head == "num" and exponent.args[0] == 2:
            base = base.args[1] if not _complex(base.args[1]) else base
        bottom, top = self(base), self(exponent)
        try:
            return power(bottom, top)
        except TooLarge:
            value = as_rational(top)
            if value is not None and as_rational(bottom) in (0, 1, -1):
                raise
            return {((f"({key(bottom)})^({key(top)})", 1),): 1}

    def _pct(self, expr: Expr) -> Poly:
        return scale(self(expr.args[0]), Fraction(1, 100))

    def _deg(self, expr: Expr) -> Poly:
        value = self(expr.args[0])
        return multiply(value, {(("π", 1),): Fraction(1, 180)}) if self.angle else multiply(value, {(("°", 1),): 1})

    def _unit(self, expr: Expr) -> Poly:
        return self(expr.args[0])

    def _base(self, expr: Expr) -> Poly:
        return constant(expr.args[0])

    def _ratio(self, expr: Expr) -> Poly:
        if len(expr.args) != 2:
            raise Undecided("no normal form for a ratio of three")
        return self._div(expr)

    def _call(self, expr: Expr) -> Poly:
        return {((f"{expr.args[0]}({','.join(key(self(a)) for a in expr.args[1:])})", 1),): 1}

    def _big(self, expr: Expr) -> Poly:
        operator, variable, lower, upper, body = expr.args
        if operator not in ("sum", "prod") or lower is None or upper is None:
            raise Undecided(f"no normal form for {operator}")
        first, last = as_rational(self(lower)), as_rational(self(upper))
        if not isinstance(first, int) or not isinstance(last, int):
            raise Undecided("a range without fixed ends")
        if last - first > MAX_SUM:
            raise TooLarge("a sum of too many terms")
        result = constant(0 if operator == "sum" else 1)
        for index in range(first, last + 1):
            term = self(substitute(body, variable, Expr("num", index, None)))
            result = add(result, term) if operator == "sum" else multiply(result, term)
        return result


_CHEAP = frozenset(("num", "sym", "const"))


def normal_form(expr: Expr, log: str = "") -> Poly:
    """Return the normal form of `expr`, as `Normalizer` does."""
    return Normalizer(log)(expr)


def _complex(expr: Expr) -> bool:
    return "const:i" in expr.features


_HANDLERS: dict[str, Callable[[Normalizer, Expr], Poly]] = {
    "num": Normalizer._num, "sym": Normalizer._sym, "const": Normalizer._const, "word": Normalizer._word, "add": Normalizer._add,
    "mul": Normalizer._mul, "div": Normalizer._div, "pow": Normalizer._pow, "pct": Normalizer._pct, "deg": Normalizer._deg,
    "unit": Normalizer._unit, "base": Normalizer._base, "ratio": Normalizer._ratio, "call": Normalizer._call,
    "big": Normalizer._big, "fn": Normalizer._fn,
}  # fmt: skip
