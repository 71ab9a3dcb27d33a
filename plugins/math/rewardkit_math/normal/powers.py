"""Powers and roots of normal forms."""

from __future__ import annotations

import math
from fractions import Fraction

from rewardkit_math.errors import Undefined
from rewardkit_math.normal.poly import (
    CONST,
    IMAGINARY,
    MAX_TERMS,
    Number,
    Poly,
    add,
    as_rational,
    constant,
    content,
    key,
    leading,
    multiply,
    power_of_number,
    reduced,
    scale,
    whole,
)

_PRIMES = [p for p in range(2, 1000) if all(p % q for q in range(2, math.isqrt(p) + 1))]


def power(base: Poly, exponent: Poly) -> Poly:
    """Return base**exponent."""
    value = as_rational(exponent)
    if value is None:
        return _symbolic_power(base, exponent)
    if value.__class__ is int:
        return integer_power(base, int(value))
    return root(base, Fraction(value))


def integer_power(base: Poly, n: int) -> Poly:
    """Return base**n."""
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
            return {CONST: whole(power_of_number(coefficient, n))}
        product, factor = reduced({atom: whole(x * n) for atom, x in mono})
        return {product: whole(power_of_number(coefficient, n) * factor)}
    if n > 0:
        if n <= 40 and math.comb(len(base) + n - 1, n) <= MAX_TERMS // 3:
            result = base
            for _ in range(n - 1):
                result = multiply(result, base)
            return result
    elif len(base) == 2:
        rational = _rationalised(base)
        if rational is not None:
            return integer_power(rational, -n)
    return _opaque_power(base, n)


def _rationalised(base: Poly) -> Poly | None:
    """Return 1/(a + b) as (a − b)/(a² − b²), if a² and b² are rational: 1/(1+√2), 1/(2+3i)."""
    (m1, c1), (m2, c2) = base.items()
    if any(atom[0] not in "#i" or (len(atom) > 1 and atom[0] == "i") for atom, _ in m1 + m2):
        return None
    first, second = {m1: c1}, {m2: c2}
    difference = as_rational(add(multiply(first, first), multiply(second, second), -1))
    if not difference:
        return None
    return scale(add(first, second, -1), Fraction(1) / difference)


def _opaque_power(base: Poly, exponent: Number) -> Poly:
    """Return a sum raised to a power, as an atom: its content and (for odd powers) its sign taken out."""
    size = content(base)
    if exponent.__class__ is int:
        if leading(base) < 0:
            size = -size
        factor: Poly = {CONST: whole(power_of_number(size, int(exponent)))}
    else:
        factor = root_of_number(size, Fraction(exponent))
    primitive = scale(base, 1 / Fraction(size))
    return multiply(factor, {((f"({key(primitive)})", exponent),): 1})


def root(base: Poly, exponent: Fraction) -> Poly:
    """Return base**exponent for a fractional exponent."""
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
                result = integer_power(IMAGINARY, exponent.numerator)
            elif mono:
                return _opaque_power(base, exponent)
            else:
                return multiply(root_of_number(-coefficient, exponent), {((f"(-1)^({exponent})", 1),): 1})
        result = multiply(result, root_of_number(coefficient if coefficient > 0 else -coefficient, exponent))
        powers: dict[str, Number] = {}
        for atom, x in mono:
            if atom == "i" or (x.__class__ is not int and not positive(atom)):
                return _opaque_power(base, exponent)
            if odd or positive(atom):
                powers[atom] = whole(x * exponent)
            elif x % 2:
                if len(mono) > 1:
                    return multiply(result, _opaque_power({mono: 1}, exponent))
                powers[atom] = whole(x * exponent)
            else:
                half = whole(x * exponent)
                if "(" in atom or (half.__class__ is int and half % 2 == 0):
                    if half.__class__ is not int or half % 2:
                        return _opaque_power(base, exponent)
                    powers[atom] = half
                else:
                    powers[f"|{atom}|"] = half
        product, factor = reduced(powers)
        return multiply(result, {product: factor})
    return _opaque_power(base, exponent)


def root_of_number(value: Number, exponent: Fraction) -> Poly:
    """Return value**exponent for a positive rational value: a rational factor times roots of primes."""
    powers: dict[str, Number] = {}
    factor: Number = 1
    for part, sign in ((value.numerator, 1), (value.denominator, -1)):
        factors = factored(part)
        if factors is None:
            powers[f"({part})"] = sign * exponent
            continue
        for prime, count in factors.items():
            total = exponent * count * sign
            turns = math.floor(total)
            factor = factor * power_of_number(prime, turns)
            if total != turns:
                powers[f"#{prime}"] = total - turns
    mono, more = reduced(powers)
    return {mono: whole(factor * more)}


def factored(value: int) -> dict[int, int] | None:
    """Return the prime factors of a positive integer, or None if they are not found quickly."""
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


def positive(atom: str) -> bool:
    """Return whether an atom stands for a positive number."""
    return atom in ("π", "e", "°") or atom[0] in "#|"


def _symbolic_power(base: Poly, exponent: Poly) -> Poly:
    shift = exponent.get(CONST, 0)
    rest = {mono: c for mono, c in exponent.items() if mono}
    fixed = power(base, constant(shift)) if shift and shift.__class__ is int else constant(1)
    if shift and shift.__class__ is not int:
        rest = exponent
    if as_rational(base) == 1:
        return constant(1)
    return multiply(fixed, {((f"({key(base)})^({key(rest)})", 1),): 1})
