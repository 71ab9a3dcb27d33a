"""Normal forms: an expression as a sum of monomials with exact rational coefficients.

A `Poly` maps monomials to coefficients; a monomial is a sorted tuple of (atom, exponent). Atoms are strings: a variable's name, `π`,
`e`, `i`, `°`, `#p` (the prime p under a fractional exponent), or, with a parenthesis in it, the key of a function value or of a sum
raised to a power. Equal normal forms mean equal expressions. Different normal forms mean different expressions only where
`is_basis` holds: distinct monomials over variables, π, i and roots of primes are linearly independent over the rationals.

Every size is guarded: a power, factorial or product that would grow beyond MAX_BITS or MAX_TERMS stays an atom.
"""

# ruff: noqa: SLF001 - the dispatch table names methods of this module's class

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr

Number = int | Fraction
Mono = tuple[tuple[str, Number], ...]
Poly = dict[Mono, Number]

MAX_TERMS = 900
MAX_BITS = 13_000
MAX_SUM = 400
MAX_FACTORIAL = 1200

CONST: Mono = ()
IMAGINARY: Poly = {(("i", 1),): 1}
_PRIMES = [p for p in range(2, 1000) if all(p % q for q in range(2, math.isqrt(p) + 1))]


def _whole(value: Number) -> Number:
    return value.numerator if value.__class__ is Fraction and value.denominator == 1 else value


def constant(value: Number) -> Poly:
    """The normal form of a rational number."""
    return {CONST: _whole(value)} if value else {}


def as_rational(poly: Poly) -> Number | None:
    """The rational number that `poly` is, or None."""
    if not poly:
        return 0
    if len(poly) == 1:
        return poly.get(CONST)
    return None


def add(left: Poly, right: Poly, sign: int = 1) -> Poly:
    """Left + sign·right."""
    result = dict(left)
    for mono, coefficient in right.items():
        total = result.get(mono, 0) + sign * coefficient
        if total:
            result[mono] = _whole(total)
        else:
            result.pop(mono, None)
    if len(result) > MAX_TERMS:
        raise TooLarge("a sum of too many terms")
    return result


def scale(poly: Poly, factor: Number) -> Poly:
    """factor·poly."""
    if factor == 1:
        return poly
    return {mono: _whole(c * factor) for mono, c in poly.items()} if factor else {}


def multiply(left: Poly, right: Poly) -> Poly:
    """left·right."""
    if not left or not right:
        return {}
    if len(left) == 1 and CONST in left:
        return scale(right, left[CONST])
    if len(right) == 1 and CONST in right:
        return scale(left, right[CONST])
    if len(left) * len(right) > MAX_TERMS:
        raise TooLarge("a product of too many terms")
    result: Poly = {}
    for m1, c1 in left.items():
        for m2, c2 in right.items():
            mono, factor = _join(m1, m2)
            total = result.get(mono, 0) + _bounded(c1 * c2 * factor)
            if total:
                result[mono] = _whole(total)
            else:
                result.pop(mono, None)
    return result


def _bounded(value: Number) -> Number:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise TooLarge("a number of too many digits")
    return value


def _join(left: Mono, right: Mono) -> tuple[Mono, Number]:
    """The product of two monomials, and the rational factor that falls out of it (i² = −1, √2·√2 = 2)."""
    if not left:
        return right, 1
    if not right:
        return left, 1
    powers = dict(left)
    for atom, exponent in right:
        powers[atom] = _whole(powers.get(atom, 0) + exponent)
    return _reduced(powers)


def _reduced(powers: dict[str, Number]) -> tuple[Mono, Number]:
    factor: Number = 1
    for atom in [a for a in powers if a[0] in "#i|"]:
        exponent = powers[atom]
        if atom[0] == "#":
            whole = math.floor(exponent)
            if whole:
                factor = _power_of_number(int(atom[1:]), whole) * factor
                powers[atom] = exponent - whole
        elif atom == "i" and exponent.__class__ is int:
            turn = int(exponent) % 4
            powers[atom] = turn % 2
            if turn >= 2:
                factor = -factor
        elif atom[0] == "|" and exponent.__class__ is int and exponent % 2 == 0:
            del powers[atom]
            inner = atom[1:-1]
            powers[inner] = powers.get(inner, 0) + exponent
    return tuple(sorted((a, x) for a, x in powers.items() if x)), factor


def _power_of_number(base: Number, exponent: int) -> Number:
    if (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent) > MAX_BITS and abs(base) != 1:
        raise TooLarge("a power of too many digits")
    if exponent < 0:
        if not base:
            raise Undefined("division by zero")
        return Fraction(base) ** exponent
    return base**exponent


def key(poly: Poly) -> str:
    """A name for `poly`: equal for equal normal forms."""
    if not poly:
        return "0"
    if any(c.numerator.bit_length() > MAX_BITS or c.denominator.bit_length() > MAX_BITS for c in poly.values()):
        raise TooLarge("a number of too many digits")
    parts = []
    for mono, coefficient in sorted(poly.items(), key=repr) if len(poly) > 1 else poly.items():
        factors = "*".join(atom if exponent == 1 else f"{atom}^{exponent}" for atom, exponent in mono)
        parts.append(f"{coefficient}*{factors}" if factors else str(coefficient))
    name = "+".join(parts)
    if len(name) > 20_000:
        raise TooLarge("an expression with a long normal form")
    return name


def content(poly: Poly) -> Number:
    """The positive rational c for which poly/c has coprime integer coefficients."""
    numerator = 0
    denominator = 1
    for c in poly.values():
        numerator = math.gcd(numerator, c.numerator)
        denominator = denominator * c.denominator // math.gcd(denominator, c.denominator)
    return _whole(Fraction(numerator, denominator))


def leading(poly: Poly) -> Number:
    """The coefficient of the first monomial in the fixed order of `key`."""
    return poly[min(poly, key=repr)]


def factored(value: int) -> dict[int, int] | None:
    """Prime factors of a positive integer, or None where they are not found quickly."""
    if value.bit_length() > 200:
        return None
    factors: dict[int, int] = {}
    for prime in _PRIMES:
        if prime * prime > value:
            break
        while value % prime == 0:
            value //= prime
            factors[prime] = factors.get(prime, 0) + 1
    if value > 1:
        if value > 994_009:  # 997²: what is left may be composite
            root = math.isqrt(value)
            if root * root != value or root > 994_009:
                return None
            factors[root] = factors.get(root, 0) + 2
        else:
            factors[value] = factors.get(value, 0) + 1
    return factors


def _root_of_number(value: Number, exponent: Fraction) -> Poly:
    """value**exponent for a positive rational value: a rational factor times roots of primes."""
    powers: dict[str, Number] = {}
    factor: Number = 1
    for part, sign in ((value.numerator, 1), (value.denominator, -1)):
        factors = factored(part)
        if factors is None:
            powers[f"({part})"] = sign * exponent
            continue
        for prime, count in factors.items():
            total = exponent * count * sign
            whole = math.floor(total)
            factor = factor * _power_of_number(prime, whole)
            if total != whole:
                powers[f"#{prime}"] = total - whole
    mono, more = _reduced(powers)
    return {mono: _whole(factor * more)}


def _positive(atom: str) -> bool:
    return atom in ("π", "e", "°") or atom[0] in "#|"


def power(base: Poly, exponent: Poly) -> Poly:
    """base**exponent."""
    value = as_rational(exponent)
    if value is None:
        return _symbolic_power(base, exponent)
    if value.__class__ is int:
        return _integer_power(base, int(value))
    return _root(base, Fraction(value))


def _integer_power(base: Poly, n: int) -> Poly:
    if n == 0:
        if not base:
            raise Undefined("0^0")
        return constant(1)
    if not base:
        if n < 0:
            raise Undefined("division by zero")
        return {}
    if n == 1:
        return base
    if len(base) == 1:
        ((mono, coefficient),) = base.items()
        if not mono:
            return {CONST: _whole(_power_of_number(coefficient, n))}
        reduced, factor = _reduced({atom: _whole(x * n) for atom, x in mono})
        return {reduced: _whole(_power_of_number(coefficient, n) * factor)}
    if n > 0:
        if n <= 40 and math.comb(len(base) + n - 1, n) <= MAX_TERMS // 3:
            result = base
            for _ in range(n - 1):
                result = multiply(result, base)
            return result
    elif len(base) == 2:
        rational = _rationalised(base)
        if rational is not None:
            return _integer_power(rational, -n)
    return _opaque_power(base, n)


def _rationalised(base: Poly) -> Poly | None:
    """1/(a + b) as (a − b)/(a² − b²), where a² and b² are rational: 1/(1+√2), 1/(2+3i)."""
    (m1, c1), (m2, c2) = base.items()
    if any(atom[0] not in "#i" or (len(atom) > 1 and atom[0] == "i") for atom, _ in m1 + m2):
        return None
    first, second = {m1: c1}, {m2: c2}
    difference = as_rational(add(multiply(first, first), multiply(second, second), -1))
    if not difference:
        return None
    return scale(add(first, second, -1), Fraction(1) / difference)


def _opaque_power(base: Poly, exponent: Number) -> Poly:
    """A sum raised to a power, as an atom: its content and (for odd powers) its sign taken out."""
    size = content(base)
    if exponent.__class__ is int:
        if leading(base) < 0:
            size = -size
        factor: Poly = {CONST: _whole(_power_of_number(size, int(exponent)))}
    else:
        factor = _root_of_number(size, Fraction(exponent))
    primitive = scale(base, 1 / Fraction(size))
    return multiply(factor, {((f"({key(primitive)})", exponent),): 1})


def _root(base: Poly, exponent: Fraction) -> Poly:
    if not base:
        if exponent < 0:
            raise Undefined("division by zero")
        return {}
    odd = exponent.denominator % 2 == 1
    if len(base) == 1:
        ((mono, coefficient),) = base.items()
        result: Poly = constant(1)
        if coefficient < 0:
            if odd:
                result = constant(-1 if exponent.numerator % 2 else 1)
            elif exponent.denominator == 2 and not mono:
                result = _integer_power(IMAGINARY, exponent.numerator)
            elif mono:
                return _opaque_power(base, exponent)
            else:
                return multiply(_root_of_number(-coefficient, exponent), {((f"(-1)^({exponent})", 1),): 1})
        result = multiply(result, _root_of_number(coefficient if coefficient > 0 else -coefficient, exponent))
        powers: dict[str, Number] = {}
        for atom, x in mono:
            if atom == "i" or (x.__class__ is not int and not _positive(atom)):
                return _opaque_power(base, exponent)
            if odd or _positive(atom):
                powers[atom] = _whole(x * exponent)
            elif x % 2:
                if len(mono) > 1:
                    return multiply(result, _opaque_power({mono: 1}, exponent))
                powers[atom] = _whole(x * exponent)
            else:
                half = _whole(x * exponent)
                if "(" in atom or (half.__class__ is int and half % 2 == 0):
                    if half.__class__ is not int or half % 2:
                        return _opaque_power(base, exponent)
                    powers[atom] = half
                else:
                    powers[f"|{atom}|"] = half
        reduced, factor = _reduced(powers)
        return multiply(result, {reduced: factor})
    return _opaque_power(base, exponent)


def _symbolic_power(base: Poly, exponent: Poly) -> Poly:
    shift = exponent.get(CONST, 0)
    rest = {mono: c for mono, c in exponent.items() if mono}
    fixed = power(base, constant(shift)) if shift and shift.__class__ is int else constant(1)
    if shift and shift.__class__ is not int:
        rest = exponent
    if as_rational(base) == 1:
        return constant(1)
    return multiply(fixed, {((f"({key(base)})^({key(rest)})", 1),): 1})


def is_basis(poly: Poly) -> bool:
    """Whether the monomials of `poly` are known to be linearly independent of all others of this kind."""
    return not any("(" in atom or atom[0] in "|°" or atom == "e" for mono in poly for atom, _ in mono)


# ---- expressions


_EXACT_TRIG: dict[Fraction, tuple[int, int, int]] = {  # x/π → sin x = a·√b/c, for x in [0, π/2]
    Fraction(0): (0, 1, 1), Fraction(1, 6): (1, 1, 2), Fraction(1, 4): (1, 2, 2), Fraction(1, 3): (1, 3, 2), Fraction(1, 2): (1, 1, 1),
}  # fmt: skip


class Normalizer:
    r"""Brings expressions to normal form.

    Args:
        log: What a `\log` without a base means: "10", "e", or "" (an unknown base).
    """

    def __init__(self, log: str = "") -> None:
        self.log = log
        self.angle = False  # inside a trigonometric function, where ° is π/180

    def __call__(self, expr: Expr) -> Poly:
        """The normal form of `expr`.

        Raises:
            Undecided: It holds something that has none (a set, a relation, words).
            Undefined: It has no value (1/0).
            TooLarge: It would exceed a guard.
        """
        handler = _HANDLERS.get(expr.head)
        if handler is None:
            raise Undecided(f"no normal form for {expr.head}")
        return handler(self, expr)

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
                    result[mono] = _whole(total)
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
        return multiply(top, _integer_power(bottom, -1))

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
        return _root(self(x), Fraction(1, 2)) if index is None else self._fn_root(x, index)

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
            if all(_positive(atom) for atom, _ in mono):
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

    def _integers(self, name: str, arguments: tuple[Expr, ...], function: Callable[..., int]) -> Poly:
        values = self._rationals(arguments)
        if values is None or not all(isinstance(v, int) for v in values):
            return self._opaque(name, *arguments)
        return constant(function(*values))

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
        return constant(ratio) if ratio is not None else multiply(top, _integer_power(bottom, -1))


_TRIG = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])


def _trigonometric(name: str, argument: Poly) -> Poly:
    """Sin x … for x in normal form: exact at multiples of π/4 and π/6, else an atom with its sign taken out."""
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
            return multiply(top, _integer_power(bottom, -1))
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
    return scale(_root_of_number(radicand, Fraction(1, 2)), Fraction(sign * numerator, denominator))


def proportion(left: Poly, right: Poly) -> Number | None:
    """The rational r with left = r·right, or None."""
    if len(left) != len(right) or not right:
        return None
    first = next(iter(right))
    if first not in left:
        return None
    ratio = Fraction(left[first]) / right[first]
    return _whole(ratio) if all(left.get(mono) == c * ratio for mono, c in right.items()) else None


def _complex(expr: Expr) -> bool:
    return "const:i" in expr.features


def substitute(expr: Expr, name: str, value: Expr) -> Expr:
    """`expr` with the variable `name` replaced."""
    if expr.head == "sym":
        return value if expr.args[0] == name else expr
    if expr.head == "const":
        return value if expr.args[0] == name and name in ("i", "e") else expr
    if expr.head == "word" and name in expr.args[0]:
        return Expr("mul", *(value if letter == name else _letter(letter) for letter in expr.args[0]))
    if not any(isinstance(a, (Expr, tuple)) for a in expr.args):
        return expr

    def replaced(argument: object) -> object:
        if isinstance(argument, Expr):
            return substitute(argument, name, value)
        if isinstance(argument, tuple):
            return tuple(replaced(a) for a in argument)
        return argument

    return Expr(expr.head, *(replaced(a) for a in expr.args))


def _letter(letter: str) -> Expr:
    return Expr("const", letter) if letter in "ei" else Expr("sym", letter)


_HANDLERS: dict[str, Callable[[Normalizer, Expr], Poly]] = {
    "num": Normalizer._num, "sym": Normalizer._sym, "const": Normalizer._const, "word": Normalizer._word, "add": Normalizer._add,
    "mul": Normalizer._mul, "div": Normalizer._div, "pow": Normalizer._pow, "pct": Normalizer._pct, "deg": Normalizer._deg,
    "unit": Normalizer._unit, "base": Normalizer._base, "ratio": Normalizer._ratio, "call": Normalizer._call,
    "big": Normalizer._big, "fn": Normalizer._fn,
}  # fmt: skip
