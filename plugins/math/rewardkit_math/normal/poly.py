"""Sums of monomials: adding, multiplying, comparing, naming them."""

from __future__ import annotations

import math
from fractions import Fraction

from rewardkit_math.errors import TooLarge, Undefined
from rewardkit_math.work import spend

Number = int | Fraction
Mono = tuple[tuple[str, Number], ...]
Poly = dict[Mono, Number]

MAX_TERMS = 900
MAX_BITS = 13_000

CONST: Mono = ()
IMAGINARY: Poly = {(("i", 1),): 1}


def whole(value: Number) -> Number:
    """Return `value` as an int if it is integral."""
    return value.numerator if value.__class__ is Fraction and value.denominator == 1 else value


def constant(value: Number) -> Poly:
    """Return the normal form of a rational number."""
    return {CONST: whole(value)} if value else {}


def as_rational(poly: Poly) -> Number | None:
    """Return the rational number that `poly` is, or None."""
    if not poly:
        return 0
    if len(poly) == 1:
        return poly.get(CONST)
    return None


def add(left: Poly, right: Poly, sign: int = 1) -> Poly:
    """Return left + sign·right."""
    result = dict(left)
    spend(1 + len(right) // 4)
    for mono, coefficient in right.items():
        total = result.get(mono, 0) + sign * coefficient
        if total:
            result[mono] = whole(total)
        else:
            result.pop(mono, None)
    if len(result) > MAX_TERMS:
        raise TooLarge("a sum of too many terms")
    return result


def scale(poly: Poly, factor: Number) -> Poly:
    """Return factor·poly."""
    if factor == 1:
        return poly
    return {mono: whole(c * factor) for mono, c in poly.items()} if factor else {}


def multiply(left: Poly, right: Poly) -> Poly:
    """Return left·right."""
    if not left or not right:
        return {}
    for number, other in ((left, right), (right, left)):
        if len(number) == 1 and CONST in number:
            factor = number[CONST]
            spend(len(other) * (1 + factor.numerator.bit_length() // 4096))
            bounded(factor * next(iter(other.values())))
            return scale(other, number[CONST])
    if len(left) * len(right) > MAX_TERMS:
        raise TooLarge("a product of too many terms")
    spend(len(left) * len(right))
    result: Poly = {}
    for m1, c1 in left.items():
        for m2, c2 in right.items():
            mono, factor = _join(m1, m2)
            total = result.get(mono, 0) + bounded(c1 * c2 * factor)
            if total:
                result[mono] = whole(total)
            else:
                result.pop(mono, None)
    return result


def bounded(value: Number) -> Number:
    """Return `value`, unless it has too many digits."""
    bits = value.numerator.bit_length() + value.denominator.bit_length()
    if bits > 1000:
        spend(bits // 500)
    if bits > 4 * MAX_BITS:
        raise TooLarge("a number of too many digits")
    return value


def _join(left: Mono, right: Mono) -> tuple[Mono, Number]:
    """Return the product of two monomials, and the rational factor that falls out of it (i² = −1, √2·√2 = 2)."""
    if not left:
        return right, 1
    if not right:
        return left, 1
    powers = dict(left)
    for atom, exponent in right:
        powers[atom] = whole(powers.get(atom, 0) + exponent)
    return reduced(powers)


def reduced(powers: dict[str, Number]) -> tuple[Mono, Number]:
    """Return the monomial with these powers, and the rational factor that falls out of it."""
    factor: Number = 1
    for atom in [a for a in powers if a[0] in "#i|"]:
        exponent = powers[atom]
        if atom[0] == "#":
            turns = math.floor(exponent)
            if turns:
                factor = power_of_number(int(atom[1:]), turns) * factor
                powers[atom] = exponent - turns
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


def power_of_number(base: Number, exponent: int) -> Number:
    """Return base**exponent, unless it has too many digits."""
    if (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent) > MAX_BITS and abs(base) != 1:
        raise TooLarge("a power of too many digits")
    if exponent < 0:
        if not base:
            raise Undefined("division by zero")
        return Fraction(base) ** exponent
    return base**exponent


def key(poly: Poly) -> str:
    """Return a name for `poly`: equal for equal normal forms."""
    if not poly:
        return "0"
    if any(c.numerator.bit_length() > MAX_BITS or c.denominator.bit_length() > MAX_BITS for c in poly.values()):
        raise TooLarge("a number of too many digits")
    parts = []
    for mono, coefficient in sorted(poly.items(), key=repr) if len(poly) > 1 else poly.items():
        factors = "*".join(atom if exponent == 1 else f"{atom}^{exponent}" for atom, exponent in mono)
        parts.append(f"{coefficient}*{factors}" if factors else str(coefficient))
    name = "+".join(parts)
    spend(len(poly) + len(name) // 200)
    if len(name) > 20_000:
        raise TooLarge("an expression with a long normal form")
    return name


def content(poly: Poly) -> Number:
    """Return the positive rational c for which poly/c has coprime integer coefficients."""
    numerator = 0
    denominator = 1
    for c in poly.values():
        numerator = math.gcd(numerator, c.numerator)
        denominator = denominator * c.denominator // math.gcd(denominator, c.denominator)
    return whole(Fraction(numerator, denominator))


def leading(poly: Poly) -> Number:
    """Return the coefficient of the first monomial in the fixed order of `key`."""
    return poly[min(poly, key=repr)]


def is_basis(poly: Poly) -> bool:
    """Return whether the monomials of `poly` are known to be linearly independent of all others of this kind."""
    return not any("(" in atom or atom[0] in "|°" or atom == "e" for mono in poly for atom, _ in mono)


def proportion(left: Poly, right: Poly) -> Number | None:
    """Return the rational r with left = r·right, or None."""
    if len(left) != len(right) or not right:
        return None
    first = next(iter(right))
    if first not in left:
        return None
    ratio = Fraction(left[first]) / right[first]
    return whole(ratio) if all(left.get(mono) == c * ratio for mono, c in right.items()) else None
