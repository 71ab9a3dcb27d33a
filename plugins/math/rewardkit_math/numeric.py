"""Numbers with error bounds: a value is a midpoint (real or complex) and a bound on its distance from the truth.

Arithmetic is decimal with a chosen number of digits and exponents up to 10^18, so that 10^(10^10) is an ordinary number. Each
operation adds a bound on its own rounding, so two disjoint balls are different numbers: that conclusion is certain. Two balls that
still overlap at 100 digits are taken to be equal.

Leaves out: integrals, limits and infinite sums (the symbolic tier has them).
"""

# ruff: noqa: SLF001, D102 - the dispatch tables name methods of this module's class; operations of arithmetic explain themselves

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from functools import lru_cache

from rewardkit_math.errors import MathError, TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.normal import Normalizer, as_rational, substitute

Ball = tuple[Decimal, Decimal | None, Decimal]
"""Real part, imaginary part (None: real), and the bound on the error."""

D0, D1, D2 = Decimal(0), Decimal(1), Decimal(2)
MAX_STEPS = 6_000
ERR = Context(prec=9, rounding=ROUND_UP, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_LARGE, _BEYOND = Decimal("1e2000"), Decimal("1e20")
_NEARLY, _TINY = Decimal("0.999999"), Decimal("1e-1000000")


class HugeError(MathError):
    """A positive number beyond 10^(10^17)."""


@lru_cache(maxsize=8)
def _pi(digits: int) -> Decimal:
    """π to `digits` digits (Machin's formula in integers)."""
    scale: int = 10 ** (digits + 10)

    def arccot(x: int) -> int:
        power: int = scale // x
        total, n, sign = power, 3, -1
        while power:
            power //= x * x
            total += sign * (power // n)
            sign, n = -sign, n + 2
        return total

    value = 4 * (4 * arccot(5) - arccot(239))
    return Decimal(value).scaleb(-(digits + 10), Context(prec=digits + 20))


class Budget:
    """How many nodes may still be evaluated for one question, at all its points together."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_STEPS) -> None:
        self.left = left


class Evaluator:
    r"""Values of expressions at one point, to a fixed number of digits.

    Args:
        digits: Working precision.
        point: Values of the variables.
        log: The base of a `\log` without one: "10", "e", or "" (undecided).
    """

    def __init__(
        self, digits: int, point: dict[str, Fraction | int], log: str = "e", budget: Budget | None = None
    ) -> None:
        self.budget = budget or Budget()
        self.digits = digits
        self.point = point
        self.log = log
        self.angle = False
        self.ctx = Context(
            prec=digits,
            rounding=ROUND_HALF_EVEN,
            Emin=MIN_EMIN,
            Emax=MAX_EMAX,
            traps=[Overflow, DivisionByZero, InvalidOperation],
        )
        self.unit = D1.scaleb(1 - digits, self.ctx)
        self.normal = Normalizer("e")

    def __call__(self, expr: Expr) -> Ball:
        """The value of `expr`.

        Raises:
            Undecided: It can't be bounded here.
            Undefined: It has no value at this point.
        """
        self.budget.left -= 1
        if self.budget.left < 0:
            raise TooLarge("an evaluation of too many steps")
        handler = _HANDLERS.get(expr.head)
        if handler is None:
            raise Undecided(f"no numeric value for {expr.head}")
        try:
            return handler(self, expr)
        except Overflow:
            raise Undecided("a number beyond all bounds") from None
        except HugeError:
            if expr.head in ("pow", "fn", "unit") or (expr.head == "big" and not expr.args[0] == "lim"):
                raise
            raise Undecided("a number beyond all bounds") from None
        except DivisionByZero:
            raise Undefined("division by zero") from None
        except InvalidOperation:
            raise Undecided("an invalid operation") from None

    # ---- arithmetic

    def ulp(self, value: Decimal) -> Decimal:
        return ERR.multiply(value.copy_abs(), self.unit)

    def ulps(self, count: int) -> Decimal:
        return ERR.multiply(self.unit, Decimal(count))

    def exact(self, value: Fraction | int) -> Ball:
        if isinstance(value, int):
            if value.bit_length() < 3 * self.digits:
                return (Decimal(value), None, D0)
            re = self.ctx.create_decimal(value)
        else:
            re = self.ctx.divide(Decimal(value.numerator), Decimal(value.denominator))
        return (re, None, self.ulp(re))

    def add(self, a: Ball, b: Ball) -> Ball:
        re = self.ctx.add(a[0], b[0])
        err = ERR.add(ERR.add(a[2], b[2]), self.ulp(re))
        if a[1] is None and b[1] is None:
            return (re, None, err)
        im = self.ctx.add(a[1] or D0, b[1] or D0)
        return (re, im, ERR.add(err, self.ulp(im)))

    def neg(self, a: Ball) -> Ball:
        return (a[0].copy_negate(), None if a[1] is None else a[1].copy_negate(), a[2])

    def size(self, a: Ball) -> Decimal:
        """An upper bound on |midpoint|."""
        return a[0].copy_abs() if a[1] is None else ERR.add(a[0].copy_abs(), a[1].copy_abs())

    def mul(self, a: Ball, b: Ball) -> Ball:
        c = self.ctx
        err = ERR.add(
            ERR.add(ERR.multiply(self.size(a), b[2]), ERR.multiply(self.size(b), a[2])), ERR.multiply(a[2], b[2])
        )
        if a[1] is None and b[1] is None:
            re = c.multiply(a[0], b[0])
            return (re, None, ERR.add(err, self.ulp(re)))
        ai, bi = a[1] or D0, b[1] or D0
        re = c.subtract(c.multiply(a[0], b[0]), c.multiply(ai, bi))
        im = c.add(c.multiply(a[0], bi), c.multiply(ai, b[0]))
        rounding = ERR.multiply(ERR.multiply(self.size(a), self.size(b)), self.ulps(4))
        return (re, im, ERR.add(err, rounding))

    def inverse(self, a: Ball) -> Ball:
        c = self.ctx
        if a[1] is None:
            if not a[0] and not a[2]:
                raise Undefined("division by zero")
            low = ERR.subtract(a[0].copy_abs(), a[2])
            if low <= 0:
                raise Undecided("a division by something near zero")
            re = c.divide(D1, a[0])
            return (re, None, ERR.add(ERR.divide(a[2], _lower(ERR.multiply(low, a[0].copy_abs()))), self.ulp(re)))
        norm = c.add(c.multiply(a[0], a[0]), c.multiply(a[1], a[1]))
        radius = c.sqrt(norm)
        low = ERR.subtract(radius, ERR.multiply(a[2], D2))
        if low <= 0:
            if not norm and not a[2]:
                raise Undefined("division by zero")
            raise Undecided("a division by something near zero")
        re, im = c.divide(a[0], norm), c.divide(a[1].copy_negate(), norm)
        err = ERR.divide(ERR.multiply(a[2], D2), _lower(ERR.multiply(low, radius)))
        return (re, im, ERR.add(err, ERR.divide(self.ulps(8), _lower(radius))))

    def real(self, a: Ball) -> Ball:
        """`a`, which must be real."""
        if a[1] is None:
            return a
        if a[1].copy_abs() <= a[2]:
            return (a[0], None, a[2])
        raise Undecided("a complex number where a real one is needed")

    def sqrt(self, a: Ball) -> Ball:
        c = self.ctx
        if a[1] is None:
            root = c.sqrt(a[0].copy_abs())
            if a[0].copy_abs() > a[2]:
                err = ERR.add(ERR.divide(a[2], _lower(root)), self.ulp(root))
                return (root, None, err) if a[0] > 0 else (D0, root, err)
            return (D0, None, ERR.sqrt(ERR.multiply(a[2], D2)))
        radius = c.sqrt(c.add(c.multiply(a[0], a[0]), c.multiply(a[1], a[1])))
        if radius <= ERR.multiply(a[2], D2) or (a[0] < 0 and a[1].copy_abs() <= a[2]):
            raise Undecided("a root on its branch cut")
        re = c.sqrt(c.divide(c.add(radius, a[0]), D2).copy_abs())
        im = c.sqrt(c.divide(c.subtract(radius, a[0]), D2).copy_abs())
        root = c.sqrt(radius)
        slack = ERR.add(ERR.multiply(a[2], D2), ERR.multiply(self.ulp(radius), Decimal(8)))
        # the smaller of the two parts loses digits by cancellation: take it from the larger one
        if re > im:
            im = c.divide(a[1], c.multiply(re, D2)).copy_abs()
        elif im:
            re = c.divide(a[1], c.multiply(im, D2)).copy_abs()
        return (re, im.copy_negate() if a[1] < 0 else im, ERR.divide(slack, _lower(root)))

    def exp(self, a: Ball) -> Ball:
        if a[1] is None and a[0] > _BEYOND and a[2] < ERR.divide(a[0], D2):
            raise HugeError
        if a[2] > Decimal("0.01"):
            raise Undecided("an exponential of something uncertain")
        if a[1] is not None:
            radius = self.exp((a[0], None, a[2]))
            return self.mul(radius, (self._cosine(a[1], D0)[0], self._sine(a[1], D0)[0], ERR.add(a[2], self.ulps(8))))
        try:
            re = self.ctx.exp(a[0])
        except Overflow:
            raise HugeError from None
        return (re, None, ERR.add(ERR.multiply(re, ERR.multiply(a[2], Decimal("1.1"))), self.ulp(re)))

    def ln(self, a: Ball) -> Ball:
        c = self.ctx
        if a[1] is None:
            if a[0].copy_abs() <= a[2]:
                if not a[2]:
                    raise Undefined("the logarithm of zero")
                raise Undecided("a logarithm near zero")
            re = c.ln(a[0].copy_abs())
            err = ERR.add(
                ERR.divide(a[2], _lower(ERR.subtract(a[0].copy_abs(), a[2]))), self.ulp(max(re.copy_abs(), D1))
            )
            return (re, None, err) if a[0] > 0 else (re, _pi(self.digits), ERR.add(err, self.ulps(4)))
        norm = c.add(c.multiply(a[0], a[0]), c.multiply(a[1], a[1]))
        radius = c.sqrt(norm)
        if radius <= ERR.multiply(a[2], Decimal(4)) or (a[0] < 0 and a[1].copy_abs() <= a[2]):
            raise Undecided("a logarithm on its branch cut")
        re = c.divide(c.ln(norm), D2)
        err = ERR.add(
            ERR.divide(ERR.multiply(a[2], D2), _lower(radius)), ERR.multiply(self.ulps(8), max(D1, re.copy_abs()))
        )
        return (re, self._angle(a[0], a[1]), err)

    def _angle(self, x: Decimal, y: Decimal) -> Decimal:
        c = self.ctx
        half = c.divide(_pi(self.digits), D2)
        if not x:
            return half if y > 0 else half.copy_negate()
        angle = self._arctan(c.divide(y, x))
        if x > 0:
            return angle
        return c.add(angle, _pi(self.digits)) if y >= 0 else c.subtract(angle, _pi(self.digits))

    def _reduced(self, x: Decimal) -> tuple[Decimal, int, Decimal]:
        """X − k·π/2 with |…| ≤ π/4, k mod 4, and the error."""
        if x.copy_abs() > _LARGE:
            raise Undecided("an angle beyond all bounds")
        extra = max(0, x.adjusted()) + 5
        wide = Context(prec=self.digits + extra, Emin=MIN_EMIN, Emax=MAX_EMAX)
        half = wide.divide(_pi(self.digits + extra), D2)
        turns = wide.divide(x, half).to_integral_value(ROUND_HALF_EVEN)
        return wide.subtract(x, wide.multiply(turns, half)), int(turns) % 4, self.unit

    def _series(self, x: Decimal, start: int) -> Decimal:
        """Sin x (start 1) or cos x (start 0) for small x."""
        c = self.ctx
        square = c.multiply(x, x).copy_negate()
        term = total = x if start else D1
        n = start
        tiny = self.unit.scaleb(-3, ERR)
        while term.copy_abs() > tiny:
            term = c.divide(c.multiply(term, square), Decimal((n + 1) * (n + 2)))
            total = c.add(total, term)
            n += 2
        return total

    def _sine(self, x: Decimal, err: Decimal) -> tuple[Decimal, Decimal]:
        rest, turn, slip = self._reduced(x)
        value = self._series(rest, 1 - turn % 2)
        return (value.copy_negate() if turn >= 2 else value), ERR.add(err, ERR.multiply(slip, Decimal(4)))

    def _cosine(self, x: Decimal, err: Decimal) -> tuple[Decimal, Decimal]:
        rest, turn, slip = self._reduced(x)
        value = self._series(rest, turn % 2)
        return (value.copy_negate() if turn in (1, 2) else value), ERR.add(err, ERR.multiply(slip, Decimal(4)))

    def sin(self, a: Ball) -> Ball:
        if a[1] is None:
            value, err = self._sine(a[0], a[2])
            return (value, None, err)
        return self._sine_complex(a)

    def _sine_complex(self, a: Ball) -> Ball:
        turned = self.mul(a, (D0, D1, D0))  # sin z = (e^{iz} − e^{−iz}) / 2i
        difference = self.add(self.exp(turned), self.neg(self.exp(self.neg(turned))))
        return self.mul(difference, (D0, Decimal("-0.5"), D0))

    def cos(self, a: Ball) -> Ball:
        if a[1] is None:
            value, err = self._cosine(a[0], a[2])
            return (value, None, err)
        turned = self.mul(a, (D0, D1, D0))
        return self.mul(self.add(self.exp(turned), self.exp(self.neg(turned))), (Decimal("0.5"), None, D0))

    def _arctan(self, x: Decimal) -> Decimal:
        c = self.ctx
        if x.copy_abs() > 1:
            half = c.divide(_pi(self.digits), D2)
            return c.subtract(half if x > 0 else half.copy_negate(), self._arctan(c.divide(D1, x)))
        for _ in range(4):
            x = c.divide(x, c.add(D1, c.sqrt(c.add(D1, c.multiply(x, x)))))
        square = c.multiply(x, x).copy_negate()
        total = power = x
        n = 3
        tiny = self.unit.scaleb(-3, ERR)
        while power.copy_abs() > tiny:
            power = c.multiply(power, square)
            total = c.add(total, c.divide(power, Decimal(n)))
            n += 2
        return c.multiply(total, Decimal(16))

    def arctan(self, a: Ball) -> Ball:
        a = self.real(a)
        return (self._arctan(a[0]), None, ERR.add(a[2], self.ulps(50)))

    def arcsin(self, a: Ball) -> Ball:
        a = self.real(a)
        if a[0].copy_abs() > ERR.add(D1, a[2]):
            raise Undefined("an arcsine outside [-1, 1]")
        if a[0].copy_abs() == 1 and not a[2]:
            return self.mul((a[0], None, D0), self.scaled_pi(Fraction(1, 2)))
        rest = self.add((D1, None, D0), self.neg(self.mul(a, a)))
        if rest[0] <= rest[2]:
            raise Undecided("an arcsine near its end")
        return self.arctan(self.mul(a, self.inverse(self.sqrt(rest))))

    def scaled_pi(self, factor: Fraction) -> Ball:
        return self.mul((_pi(self.digits), None, self.ulps(4)), self.exact(factor))

    def power(self, base: Expr, exponent: Expr) -> Ball:
        exact = self.rational(exponent)
        try:
            a = self(base)
        except HugeError:
            if exact is not None and exact > 0:
                raise
            raise Undecided("a number beyond all bounds") from None
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
            raise Undecided("a number beyond all bounds") from None
        return self.exp(self.mul(b, self.ln(a)))

    def rational(self, expr: Expr) -> Fraction | int | None:
        """The exact value of an exponent."""
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
            return as_rational(self.normal(expr))
        except MathError:
            return None

    def integer_power(self, a: Ball, n: int) -> Ball:
        if n < 0:
            return self.inverse(self.integer_power(a, -n))
        if n == 0:
            return (D1, None, D0)
        if n.bit_length() > 4000:
            raise HugeError if a[1] is None and a[0] > D2 and a[2] < D1 else Undecided("a power beyond all bounds")
        if n <= 64 or a[1] is not None:
            result: Ball | None = None
            square = a
            while n:
                if n & 1:
                    result = square if result is None else self.mul(result, square)
                n >>= 1
                if n:
                    square = self.mul(square, square)
            assert result is not None  # noqa: S101 - n is at least 1
            return result
        if not a[0] and not a[2]:
            return a
        slip = ERR.multiply(ERR.divide(a[2], _lower(a[0].copy_abs())), Decimal(n)) if a[0] else D1
        if slip > Decimal("0.1"):
            raise Undecided("a power of something uncertain")
        try:
            re = self.ctx.power(a[0], Decimal(n))
        except Overflow:
            if a[0] > 0:
                raise HugeError from None
            raise Undecided("a power beyond all bounds") from None
        return (re, None, ERR.multiply(re.copy_abs(), ERR.add(ERR.multiply(slip, D2), self.ulps(10))))

    # ---- heads

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
            return (_pi(self.digits), None, self.ulps(4))
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
        """A function that nobody knows: one smooth function per name, the same wherever the name occurs."""
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
        handler = _FUNCTIONS.get(name)
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

    def _tan(self, a: Ball) -> Ball:
        return self.mul(self.sin(a), self.inverse(self.cos(a)))

    def _cot(self, a: Ball) -> Ball:
        return self.mul(self.cos(a), self.inverse(self.sin(a)))

    def _sec(self, a: Ball) -> Ball:
        return self.inverse(self.cos(a))

    def _csc(self, a: Ball) -> Ball:
        return self.inverse(self.sin(a))

    def _arccos(self, a: Ball) -> Ball:
        return self.add(self.scaled_pi(Fraction(1, 2)), self.neg(self.arcsin(a)))

    def _arccot(self, a: Ball) -> Ball:
        return self.add(self.scaled_pi(Fraction(1, 2)), self.neg(self.arctan(a)))

    def _arcsec(self, a: Ball) -> Ball:
        return self._arccos(self.inverse(a))

    def _arccsc(self, a: Ball) -> Ball:
        return self.arcsin(self.inverse(a))

    def _sinh(self, a: Ball) -> Ball:
        return self.mul(self.add(self.exp(a), self.neg(self.exp(self.neg(a)))), (Decimal("0.5"), None, D0))

    def _cosh(self, a: Ball) -> Ball:
        return self.mul(self.add(self.exp(a), self.exp(self.neg(a))), (Decimal("0.5"), None, D0))

    def _tanh(self, a: Ball) -> Ball:
        return self.mul(self._sinh(a), self.inverse(self._cosh(a)))

    def _arcsinh(self, a: Ball) -> Ball:
        return self.ln(self.add(a, self.sqrt(self.add(self.mul(a, a), (D1, None, D0)))))

    def _arccosh(self, a: Ball) -> Ball:
        return self.ln(self.add(a, self.sqrt(self.add(self.mul(a, a), (-D1, None, D0)))))

    def _arctanh(self, a: Ball) -> Ball:
        ratio = self.mul(self.add((D1, None, D0), a), self.inverse(self.add((D1, None, D0), self.neg(a))))
        return self.mul(self.ln(ratio), (Decimal("0.5"), None, D0))

    def _log(self, a: Ball, base: Ball | None = None) -> Ball:
        if base is None:
            if self.log == "e":
                return self.ln(a)
            base = (Decimal(10), None, D0)
        return self.mul(self.ln(a), self.inverse(self.ln(base)))

    def _abs(self, a: Ball) -> Ball:
        if a[1] is None:
            return (a[0].copy_abs(), None, a[2])
        radius = self.ctx.sqrt(self.ctx.add(self.ctx.multiply(a[0], a[0]), self.ctx.multiply(a[1], a[1])))
        return (radius, None, ERR.add(ERR.multiply(a[2], D2), ERR.multiply(self.ulp(radius), Decimal(8))))

    def integer(self, a: Ball) -> int:
        """The integer that `a` is."""
        a = self.real(a)
        if a[0].copy_abs() > Decimal("1e30"):
            raise TooLarge("an integer of too many digits")
        nearest = a[0].to_integral_value()
        if self.ctx.subtract(a[0], nearest).copy_abs() > a[2]:
            raise Undecided("a function of integers at something else")
        if a[2] > Decimal("0.2"):
            raise Undecided("an integer that is uncertain")
        return int(nearest)

    def _fact(self, a: Ball) -> Ball:
        try:
            n = self.integer(a)
        except TooLarge:
            if a[1] is None and a[0] > 0:
                raise HugeError from None
            raise
        if n < 0:
            raise Undefined("the factorial of a negative number")
        if n <= 3000:
            return self.exact(math.factorial(n))
        return self.exp(self.ln_factorial(n))

    def ln_factorial(self, n: int) -> Ball:
        """Ln n! by Stirling's series, whose error is below its first omitted term."""
        x = self.exact(n)
        result = self.add(self.mul(x, self.ln(x)), self.neg(x))
        half_log = self.mul(self.ln(self.mul(x, self.scaled_pi(Fraction(2)))), (Decimal("0.5"), None, D0))
        result = self.add(result, half_log)
        for coefficient, power in ((Fraction(1, 12), 1), (Fraction(-1, 360), 3), (Fraction(1, 1260), 5)):
            result = self.add(result, self.exact(coefficient / Fraction(n) ** power))
        return (result[0], None, ERR.add(result[2], ERR.power(Decimal(n), -7)))

    def _dfact(self, a: Ball) -> Ball:
        n = self.integer(a)
        if not 0 <= n <= 3000:
            raise Undecided("a double factorial beyond all bounds")
        return self.exact(math.prod(range(n, 0, -2)))

    def _binom(self, a: Ball, b: Ball) -> Ball:
        k = self.integer(b)
        if a[1] is None and a[0] == a[0].to_integral_value() and not a[2]:
            n = self.integer(a)
            if 0 <= n <= 3000:
                return self.exact(math.comb(n, k) if k >= 0 else 0)
            if n > 0 and min(k, n - k) > 3000:
                total = self.add(
                    self.ln_factorial(n), self.neg(self.add(self.ln_factorial(k), self.ln_factorial(n - k)))
                )
                return self.exp(total)
        if not 0 <= k <= 3000:
            raise Undecided("a binomial coefficient beyond all bounds")
        result: Ball = (D1, None, D0)
        for j in range(k):
            result = self.mul(result, self.mul(self.add(a, (Decimal(-j), None, D0)), self.exact(Fraction(1, j + 1))))
        return result

    def _floor(self, a: Ball) -> Ball:
        a = self.real(a)
        if a[0].copy_abs() > D1.scaleb(self.digits, self.ctx):
            raise Undecided("the floor of something beyond all bounds")
        wide = Context(prec=2 * self.digits, Emin=MIN_EMIN, Emax=MAX_EMAX)
        low = wide.subtract(a[0], a[2]).to_integral_value(ROUND_FLOOR)
        if low != wide.add(a[0], a[2]).to_integral_value(ROUND_FLOOR):
            raise Undecided("the floor of something near an integer")
        return (low, None, D0)

    def _ceil(self, a: Ball) -> Ball:
        return self.neg(self._floor(self.neg(a)))

    def _mod(self, a: Ball, b: Ball) -> Ball:
        return self.add(a, self.neg(self.mul(b, self._floor(self.mul(a, self.inverse(b))))))

    def _gcd(self, *values: Ball) -> Ball:
        return self.exact(math.gcd(*(self.integer(v) for v in values)))

    def _lcm(self, *values: Ball) -> Ball:
        return self.exact(math.lcm(*(self.integer(v) for v in values)))

    def _extreme(self, values: tuple[Ball, ...], sign: int) -> Ball:
        best = self.real(values[0])
        for value in map(self.real, values[1:]):
            slack = max(best[2], value[2])
            best = value if (value[0] > best[0]) == (sign > 0) else best
            best = (best[0], None, slack)
        return best

    def _max(self, *values: Ball) -> Ball:
        return self._extreme(values, 1)

    def _min(self, *values: Ball) -> Ball:
        return self._extreme(values, -1)

    def _sgn(self, a: Ball) -> Ball:
        a = self.real(a)
        if a[0].copy_abs() <= a[2] and a[2]:
            raise Undecided("the sign of something near zero")
        return (Decimal((a[0] > 0) - (a[0] < 0)), None, D0)

    def _re(self, a: Ball) -> Ball:
        return (a[0], None, a[2])

    def _im(self, a: Ball) -> Ball:
        return (a[1] or D0, None, a[2])

    def _arg(self, a: Ball) -> Ball:
        return self._im(self.ln(a))


def _lower(value: Decimal) -> Decimal:
    """A little less than a positive value, to divide an error bound by."""
    return ERR.multiply(value, _NEARLY) if value > 0 else _TINY


_FUNCTIONS: dict[str, Callable[..., Ball]] = {
    "sin": Evaluator.sin, "cos": Evaluator.cos, "tan": Evaluator._tan, "cot": Evaluator._cot, "sec": Evaluator._sec,
    "csc": Evaluator._csc, "arcsin": Evaluator.arcsin, "arccos": Evaluator._arccos, "arctan": Evaluator.arctan,
    "arccot": Evaluator._arccot, "arcsec": Evaluator._arcsec, "arccsc": Evaluator._arccsc, "sinh": Evaluator._sinh,
    "cosh": Evaluator._cosh, "tanh": Evaluator._tanh, "arcsinh": Evaluator._arcsinh, "arccosh": Evaluator._arccosh,
    "arctanh": Evaluator._arctanh, "ln": Evaluator.ln, "log": Evaluator._log, "sqrt": Evaluator.sqrt, "root": Evaluator.sqrt,
    "abs": Evaluator._abs, "fact": Evaluator._fact, "dfact": Evaluator._dfact, "binom": Evaluator._binom,
    "floor": Evaluator._floor, "ceil": Evaluator._ceil, "mod": Evaluator._mod, "gcd": Evaluator._gcd, "lcm": Evaluator._lcm,
    "max": Evaluator._max, "min": Evaluator._min, "sgn": Evaluator._sgn, "Re": Evaluator._re, "Im": Evaluator._im,
    "arg": Evaluator._arg,
}  # fmt: skip
_HANDLERS: dict[str, Callable[[Evaluator, Expr], Ball]] = {
    "num": Evaluator._num, "base": Evaluator._num, "sym": Evaluator._sym, "word": Evaluator._word, "const": Evaluator._const,
    "add": Evaluator._add, "mul": Evaluator._mul, "div": Evaluator._div, "ratio": Evaluator._div, "pow": Evaluator._pow,
    "pct": Evaluator._pct, "deg": Evaluator._deg, "unit": Evaluator._unit, "call": Evaluator._call, "big": Evaluator._big,
    "fn": Evaluator._fn,
}  # fmt: skip
