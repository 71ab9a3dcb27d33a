"""Functions on balls: trigonometric, on integers, on complex numbers."""

# ruff: noqa: SLF001 - the dispatch table names methods of this module's class

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.numeric.arithmetic import D0, D1, D2, ERR, Arithmetic, Ball, HugeError


class Functions(Arithmetic, ABC):
    """The functions that `fn` nodes name."""

    log: str

    @abstractmethod
    def spend(self, steps: int) -> None:
        """Count `steps` steps.

        Raises:
            TooLarge: There have been too many.
        """

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
        """Return the integer that `a` is."""
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
        self.spend(k)
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


FUNCTIONS: dict[str, Callable[..., Ball]] = {
    "sin": Functions.sin, "cos": Functions.cos, "tan": Functions._tan, "cot": Functions._cot, "sec": Functions._sec,
    "csc": Functions._csc, "arcsin": Functions.arcsin, "arccos": Functions._arccos, "arctan": Functions.arctan,
    "arccot": Functions._arccot, "arcsec": Functions._arcsec, "arccsc": Functions._arccsc, "sinh": Functions._sinh,
    "cosh": Functions._cosh, "tanh": Functions._tanh, "arcsinh": Functions._arcsinh, "arccosh": Functions._arccosh,
    "arctanh": Functions._arctanh, "ln": Functions.ln, "log": Functions._log, "sqrt": Functions.sqrt, "root": Functions.sqrt,
    "abs": Functions._abs, "fact": Functions._fact, "dfact": Functions._dfact, "binom": Functions._binom,
    "floor": Functions._floor, "ceil": Functions._ceil, "mod": Functions._mod, "gcd": Functions._gcd, "lcm": Functions._lcm,
    "max": Functions._max, "min": Functions._min, "sgn": Functions._sgn, "Re": Functions._re, "Im": Functions._im,
    "arg": Functions._arg,
}  # fmt: skip
