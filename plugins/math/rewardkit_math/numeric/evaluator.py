"""The value of an expression tree at a point."""

# ruff: noqa: SLF001 - the dispatch table names methods of this module's class

from __future__ import annotations

import zlib
from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

from rewardkit_math.errors import MathError, TooLarge, Unbounded, Undecided, Undefined
from rewardkit_math.expr import Expr, substitute, symbols
from rewardkit_math.normal import as_rational, normal_form
from rewardkit_math.numeric.arithmetic import D0, D1, D2, Ball, HugeError, pi
from rewardkit_math.numeric.functions import FUNCTIONS, Functions
from rewardkit_math.work import spend

MAX_STEPS = 6_000


class Budget:
    """The number of nodes that may still be evaluated for one comparison, at all its points together."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_STEPS) -> None:
        self.left = left


class Evaluator(Functions):
    r"""Values of expressions at one point, to a fixed number of digits.

    Args:
        digits: Working precision.
        point: Values of the variables.
        log: The base of a `\log` without one: "10", "e", or "" (undecided).
        budget: How many nodes may be evaluated.
    """

    def __init__(
        self, digits: int, point: dict[str, Fraction | int], log: str = "e", budget: Budget | None = None
    ) -> None:
        super().__init__(digits)
        self.budget = budget or Budget()
        self.point = point
        self.log = log
        self.angle = False
        self.cost = 1 + digits // 100 + (digits // 150) ** 2

    def spend(self, steps: int) -> None:
        """Count `steps` steps; with many digits each counts for more."""
        spend(steps * self.cost)
        self.budget.left -= steps * self.cost
        if self.budget.left < 0:
            raise TooLarge("an evaluation of too many steps")

    def __call__(self, expr: Expr) -> Ball:
        """Return the value of `expr`.

        Raises:
            Undecided: It can't be bounded here.
            Undefined: It has no value at this point.
        """
        self.spend(1)
        handler = _HANDLERS.get(expr.head)
        if handler is None:
            raise Undecided(f"no numeric value for {expr.head}")
        try:
            return handler(self, expr)
        except Overflow:
            raise Unbounded("a number beyond all bounds") from None
        except HugeError:
            if expr.head in ("pow", "fn", "unit") or (expr.head == "big" and not expr.args[0] == "lim"):
                raise
            raise Unbounded("a number beyond all bounds") from None
        except DivisionByZero:
            raise Undefined("division by zero") from None
        except InvalidOperation:
            raise Undecided("an invalid operation") from None

    def power(self, base: Expr, exponent: Expr) -> Ball:
        """Return the value of a power; roots of odd order of negative numbers are real."""
        exact = self.rational(exponent)
        try:
            a = self(base)
        except HugeError:
            if exact is not None and exact > 0:
                raise
            raise Unbounded("a number beyond all bounds") from None
        if isinstance(exact, int):
            return self.integer_power(a, exact)
        if exact is not None:
            if a[1] is None and a[0] < 0 and a[0].copy_abs() > a[2] and exact.denominator % 2:
                root = self.exp(self.mul(self.ln((a[0].copy_negate(), None, a[2])), self.exact(exact)))
                return self.neg(root) if exact.numerator % 2 else root
            if exact.denominator == 2:
                return self.integer_power(self.sqrt(a), exact.numerator)
            if not a[0] and not a[1] and not a[2]:
                if exact > 0:
                    return (D0, None, D0)
                raise Undefined("division by zero")
        try:
            b = self(exponent)
        except HugeError:
            if a[1] is None and a[0] > D2 and a[2] < D1:
                raise
            raise Unbounded("a number beyond all bounds") from None
        return self.exp(self.mul(b, self.ln(a)))

    def rational(self, expr: Expr) -> Fraction | int | None:
        """Return the exact value of an exponent."""
        if expr.head == "num":
            value: Fraction | int = expr.args[0]
            return value
        if expr.head == "sym":
            return self.point.get(expr.args[0])
        try:
            for name in symbols(expr):
                if name in self.point:
                    at = self.point[name]
                    expr = substitute(expr, name, Expr("num", at, None))
            return as_rational(normal_form(expr, "e"))
        except MathError:
            return None

    def _num(self, expr: Expr) -> Ball:
        return self.exact(expr.args[0])

    def _sym(self, expr: Expr) -> Ball:
        name = expr.args[0]
        if name not in self.point:
            raise Undecided(f"no value for {name}")
        return self.exact(self.point[name])

    def _word(self, expr: Expr) -> Ball:
        result: Ball = (D1, None, D0)
        for letter in expr.args[0]:
            result = self.mul(result, self(Expr("const", letter) if letter in "ei" else Expr("sym", letter)))
        return result

    def _const(self, expr: Expr) -> Ball:
        name = expr.args[0]
        if name == "pi":
            return (pi(self.digits), None, self.ulps(4))
        if name == "e":
            return self.exp((D1, None, D0))
        if name == "i":
            return (D0, D1, D0)
        raise Undecided(f"no numeric value for {name}")

    def _add(self, expr: Expr) -> Ball:
        result = self(expr.args[0])
        for term in expr.args[1:]:
            result = self.add(result, self(term))
        return result

    def _mul(self, expr: Expr) -> Ball:
        result = self(expr.args[0])
        for factor in expr.args[1:]:
            result = self.mul(result, self(factor))
        return result

    def _div(self, expr: Expr) -> Ball:
        return self.mul(self(expr.args[0]), self.inverse(self(expr.args[1])))

    def _pow(self, expr: Expr) -> Ball:
        return self.power(expr.args[0], expr.args[1])

    def _pct(self, expr: Expr) -> Ball:
        return self.mul(self(expr.args[0]), (Decimal("0.01"), None, D0))

    def _deg(self, expr: Expr) -> Ball:
        value = self(expr.args[0])
        return self.mul(value, self.scaled_pi(Fraction(1, 180))) if self.angle else value

    def _unit(self, expr: Expr) -> Ball:
        return self(expr.args[0])

    def _call(self, expr: Expr) -> Ball:
        """Return the value of an unknown function, for which a fixed smooth function is used for each name."""
        result = self.exact(Fraction(zlib.crc32(repr(expr.args[0]).encode()) % 997, 131))
        for index, argument in enumerate(expr.args[1:], 1):
            t = self(argument)
            square = self.mul(t, t)
            weights = [zlib.crc32(f"{expr.args[0]}/{index}/{k}".encode()) % 1009 + 1 for k in range(3)]
            bump = self.inverse(self.add(square, self.exact(Fraction(weights[2], 100))))
            for value, weight in ((t, weights[0]), (square, weights[1]), (bump, weights[2])):
                result = self.add(result, self.mul(value, self.exact(Fraction(weight, 211))))
        return result

    def _big(self, expr: Expr) -> Ball:
        operator, variable, lower, upper, body = expr.args
        if operator not in ("sum", "prod") or lower is None or upper is None:
            raise Undecided(f"no numeric value for {operator}")
        first, last = self.rational(lower), self.rational(upper)
        if not isinstance(first, int) or not isinstance(last, int):
            raise Undecided("a range without fixed ends")
        if last - first > MAX_STEPS:
            raise TooLarge("a sum of too many terms")
        result: Ball = (D0 if operator == "sum" else D1, None, D0)
        outer = self.point
        try:
            for index in range(first, last + 1):
                self.point = {**outer, variable: index}
                result = self.add(result, self(body)) if operator == "sum" else self.mul(result, self(body))
        finally:
            self.point = outer
        return result

    def _fn(self, expr: Expr) -> Ball:
        name, arguments = expr.args[0], expr.args[1:]
        handler = FUNCTIONS.get(name)
        if handler is None:
            raise Undecided(f"no numeric value for {name}")
        if name == "root":
            return self.power(arguments[0], Expr("div", Expr("num", 1, None), arguments[1]))
        outer, self.angle = (
            self.angle,
            name in ("sin", "cos", "tan", "cot", "sec", "csc") or (self.angle and name in ("abs", "sqrt")),
        )
        try:
            values = [self(a) for a in arguments]
        finally:
            self.angle = outer
        return handler(self, *values)


_HANDLERS: dict[str, Callable[[Evaluator, Expr], Ball]] = {
    "num": Evaluator._num, "base": Evaluator._num, "sym": Evaluator._sym, "word": Evaluator._word, "const": Evaluator._const,
    "add": Evaluator._add, "mul": Evaluator._mul, "div": Evaluator._div, "ratio": Evaluator._div, "pow": Evaluator._pow,
    "pct": Evaluator._pct, "deg": Evaluator._deg, "unit": Evaluator._unit, "call": Evaluator._call, "big": Evaluator._big,
    "fn": Evaluator._fn,
}  # fmt: skip
