"""Balls: +, ×, ÷, √, powers, exp, ln and the trigonometric functions, each with a bound on its error."""

# ruff: noqa: D102 - operations of arithmetic explain themselves

from __future__ import annotations

from decimal import (
    MAX_EMAX,
    MIN_EMIN,
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

from rewardkit_math.errors import MathError, Unbounded, Undecided, Undefined

Ball = tuple[Decimal, Decimal | None, Decimal]
"""Real part, imaginary part (None: real), and the bound on the error."""

D0, D1, D2 = Decimal(0), Decimal(1), Decimal(2)
ERR = Context(prec=9, rounding=ROUND_UP, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_LARGE, _BEYOND = Decimal("1e2000"), Decimal("1e20")
_NEARLY, _TINY = Decimal("0.999999"), Decimal("1e-1000000")


class HugeError(MathError):
    """A positive number beyond 10^(10^17)."""


@lru_cache(maxsize=8)
def pi(digits: int) -> Decimal:
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


class Arithmetic:
    """Operations on balls, to a fixed number of digits.

    Args:
        digits: Working precision.
    """

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.ctx = Context(
            prec=digits,
            rounding=ROUND_HALF_EVEN,
            Emin=MIN_EMIN,
            Emax=MAX_EMAX,
            traps=[Overflow, DivisionByZero, InvalidOperation],
        )
        self.unit = D1.scaleb(1 - digits, self.ctx)

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
        """Return an upper bound on |midpoint|."""
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
        """Return `a`, which must be real."""
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
            return (re, None, err) if a[0] > 0 else (re, pi(self.digits), ERR.add(err, self.ulps(4)))
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
        half = c.divide(pi(self.digits), D2)
        if not x:
            return half if y > 0 else half.copy_negate()
        angle = self._arctan(c.divide(y, x))
        if x > 0:
            return angle
        return c.add(angle, pi(self.digits)) if y >= 0 else c.subtract(angle, pi(self.digits))

    def _reduced(self, x: Decimal) -> tuple[Decimal, int, Decimal]:
        """X − k·π/2 with |…| ≤ π/4, k mod 4, and the error."""
        if x.copy_abs() > _LARGE:
            raise Unbounded("an angle beyond all bounds")
        extra = max(0, x.adjusted()) + 5
        wide = Context(prec=self.digits + extra, Emin=MIN_EMIN, Emax=MAX_EMAX)
        half = wide.divide(pi(self.digits + extra), D2)
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
            half = c.divide(pi(self.digits), D2)
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
        return self.mul((pi(self.digits), None, self.ulps(4)), self.exact(factor))

    def integer_power(self, a: Ball, n: int) -> Ball:
        if n < 0:
            return self.inverse(self.integer_power(a, -n))
        if n == 0:
            return (D1, None, D0)
        if n.bit_length() > 4000:
            raise HugeError if a[1] is None and a[0] > D2 and a[2] < D1 else Unbounded("a power beyond all bounds")
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
            raise Unbounded("a power beyond all bounds") from None
        return (re, None, ERR.multiply(re.copy_abs(), ERR.add(ERR.multiply(slip, D2), self.ulps(10))))


def _lower(value: Decimal) -> Decimal:
    """Return a little less than a positive value, to divide an error bound by."""
    return ERR.multiply(value, _NEARLY) if value > 0 else _TINY
