"""Numbers and expressions: units, percent and degrees first, then normal forms, decimals, and numbers with error bounds."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

import contextlib
from decimal import Decimal
from fractions import Fraction

from rewardkit_math.comparison.parts import Part
from rewardkit_math.comparison.shapes import (
    bare,
    in_radians,
    is_angle,
    literal,
    outside_functions,
    terminates,
    unit_of,
    unwrapped,
    without_degrees,
)
from rewardkit_math.errors import MathError, TooLarge, Undecided
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.normal import Poly, as_rational, is_basis, normal_form
from rewardkit_math.numeric.identity import same_function, value
from rewardkit_math.units import words_behind
from rewardkit_math.work import limited

NORMAL_FORM = 8_000
"""Steps that the normal forms of one pair of values may take; what is left of the comparison's is for numbers."""


class Values(Part):
    """Values, down to the numbers."""

    def value(self, a: Expr, b: Expr) -> bool:
        """Return whether two numbers or expressions are equal."""
        if a.head == "unit" or b.head == "unit":
            converted = self.units(a, b)
            if converted is None:
                return False
            a, b = converted
        a, b = unwrapped(a), unwrapped(b)
        if (a.head == "pct") != (b.head == "pct"):
            return self.percent(a, b)
        if a.head == b.head == "pct":
            return self.value(a.args[0], b.args[0])
        degrees = ["deg" in e.features and any(n.head == "deg" for n in outside_functions(e)) for e in (a, b)]
        if degrees[0] != degrees[1]:
            if self.bare_value(without_degrees(a), without_degrees(b)):
                return True
            return any(is_angle(n) for e in (a, b) for n in outside_functions(e)) and self.bare_value(
                in_radians(a), in_radians(b)
            )
        return self.bare_value(a, b)

    def units(self, a: Expr, b: Expr) -> tuple[Expr, Expr] | None:
        """Return both sides without their units, converted to the reference's; None if they measure different things."""
        left, right = unit_of(a), unit_of(b)
        if left == right:
            return bare(a), bare(b)
        if not left or not right:
            if words_behind(left or right).changing or (right and self.policy.units == "required"):
                return None
            return bare(a), bare(b)
        theirs, ours = words_behind(left), words_behind(right)
        if theirs.changing != ours.changing or not (theirs.others <= ours.others or ours.others <= theirs.others):
            return None
        if theirs.unit is None or ours.unit is None:
            differ = (theirs.unit is None) != (ours.unit is None) and (theirs.others or ours.others)
            return None if differ else (bare(a), bare(b))
        if theirs.unit.dimension != ours.unit.dimension:
            return None
        if theirs.unit == ours.unit:
            return bare(a), bare(b)
        value = Expr("mul", Expr("num", theirs.unit.scale / ours.unit.scale, None), bare(a))
        if theirs.unit.offset != ours.unit.offset:
            value = Expr("add", value, Expr("num", (theirs.unit.offset - ours.unit.offset) / ours.unit.scale, None))
        return value, bare(b)

    def percent(self, a: Expr, b: Expr) -> bool:
        share, other = (a.args[0], b) if a.head == "pct" else (b.args[0], a)

        def same(mine: Expr) -> bool:
            return self.value(mine, other) if a.head == "pct" else self.value(other, mine)

        if self.policy.percent != "number" and same(Expr("div", share, Expr("num", 100, None))):
            return True
        if self.policy.percent == "either" and _below_one(share):
            return False
        return self.policy.percent != "fraction" and same(share)

    def bare_value(self, a: Expr, b: Expr) -> bool:
        if "fn:log" not in a.features and "fn:log" not in b.features:
            return self.reading(a, b, "")
        doubt: MathError | None = None
        for log in ("e", "10"):  # log without a base is natural or decadic, the same on both sides
            try:
                if self.reading(a, b, log):
                    return True
            except (Undecided, TooLarge) as error:
                doubt = error
        if doubt is not None:
            raise doubt
        return False

    def reading(self, a: Expr, b: Expr, log: str) -> bool:
        left = right = None
        with contextlib.suppress(Undecided, TooLarge), limited(NORMAL_FORM):
            left, right = normal_form(a, log), normal_form(b, log)
        if left is not None and right is not None:
            self.at("normal form")
            if left == right:
                return True
            if self.close(a, b, left, right):
                return True
            if is_basis(left) and is_basis(right):
                return False
        self.at("numeric")
        return same_function(a, b, log or "e")

    def close(self, a: Expr, b: Expr, left: Poly, right: Poly) -> bool:
        """Return whether a decimal equals the other side by correct rounding or within the tolerance."""
        first, second = literal(a), literal(b)
        chosen = self.policy.tolerance > 1e-6  # a tolerance that the user chose is relative, for every number
        if (first is None and second is None and not chosen) or symbols(a) or symbols(b):
            return False
        if first is not None and second is not None and first[0] == second[0] and not chosen:
            return False
        exact: list[Fraction] = []
        for expr, poly in ((a, left), (b, right)):
            rational = as_rational(poly)
            if rational is None:
                ball = value(expr)
                if ball[1] is not None and ball[1].copy_abs() > Decimal("1e-20"):
                    return False
                if abs(ball[0].adjusted()) > 1000:
                    return False
                rational = Fraction(ball[0])
            exact.append(Fraction(rational))
        gap = abs(exact[0] - exact[1])
        if gap.numerator.bit_length() - gap.denominator.bit_length() > 40:
            return False
        places = min(first[0], second[0]) if first is not None and second is not None else 0
        if places and self.policy.tolerance <= 1e-6 and gap >= Fraction(10) ** -places:
            return False  # of two decimals, the shorter must be what the longer is rounded or cut off to
        tolerance = Fraction(self.policy.tolerance)
        # the default tolerance is meant for rounding: absolute above 1. One that the user chose is relative throughout
        scale_of = (
            abs(exact[1]) if self.policy.tolerance > 1e-6 else min(Fraction(1), max(abs(exact[0]), abs(exact[1])))
        )
        if gap <= tolerance * scale_of:
            return True
        for mine, other, poly in ((first, exact[1], right), (second, exact[0], left)):
            if mine is not None and mine[1] >= 6 and not terminates(poly):
                shown = exact[0] if mine is first else exact[1]
                if abs(shown - other) <= Fraction(1, 2) / Fraction(10) ** mine[0]:
                    return self.policy.tolerance > 0
        return False


def _below_one(share: Expr) -> bool:
    """Return whether a percentage is below 1 %, for which the sign can't be left out: 0.5 would be another share."""
    try:
        return value(share)[0].copy_abs() < 1
    except MathError:
        return False
