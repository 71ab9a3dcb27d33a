"""Values with words behind them: units, percent, "million"."""

from __future__ import annotations

from fractions import Fraction

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.cursor import Cursor
from rewardkit_math.parsing.lexer import Token
from rewardkit_math.parsing.numerals import with_repetition

_REPEATING = frozenset(("repeating", "recurring"))


class Quantities(Cursor):
    """Units and what else may stand behind a value."""

    __slots__ = ()

    def is_unit(self, token: Token) -> bool:
        """Whether a word behind an operand is a unit (in `2 cm`), rather than a factor or prose."""
        if self.starts_condition(token):
            return True
        before = self.tokens[self.at - 1]
        return (
            token.value in words.UNITS
            or (before.kind in ("num", "close") or before.value in ("}", "%"))
            or before.kind == "word"
        )

    def unit(self, left: Expr) -> Expr:
        """A unit behind a value; several words are one unit, and so is what they are raised to or divided by."""
        parts: list[str] = []
        while True:
            token = self.tokens[self.at]
            if token.kind in ("text", "word"):
                if parts and self.starts_condition(token):
                    break
                parts.append(token.value.strip())
                self.at += 1
            elif token.kind == "op" and token.value == "^" and parts:
                self.at += 1
                exponent = self.argument(whole_number=True)
                if exponent.head != "num":
                    raise ParseError("an exponent on a unit that is no number")
                parts[-1] += f"^{exponent.args[0]}"
            elif token.kind == "op" and token.value in ("/", "*") and self.tokens[self.at + 1].kind in ("text", "word"):
                parts.append(token.value)
                self.at += 1
            elif token.kind == "op" and token.value == ".":
                self.at += 1
            else:
                break
        unit = " ".join(part for part in parts if part)
        lowered = unit.casefold()
        if left.head == "num" and lowered in _REPEATING:
            return with_repetition(left, self.tokens[self.at - 2].value)
        if lowered in ("percent", "percentage", "pct"):
            return Expr("pct", left)
        if lowered in ("degrees", "degree", "deg"):
            return Expr("deg", left)
        scale = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}.get(
            lowered.split(" ")[0]
        )
        if scale:
            left = Expr("mul", left, Expr("num", scale, None))
            unit = unit.partition(" ")[2]
            if not unit:
                return left
        return Expr("unit", left, unit)


def joined_units(left: Expr, right: Expr) -> Expr:
    """`2 hours 30 minutes`: the sum, in the first unit."""
    scales = [words.unit_scale(words.UNITS.get(e.args[1], "")) for e in (left, right)]
    if not scales[0] or not scales[1] or scales[0][0] != scales[1][0]:
        raise ParseError("two values with units side by side")
    factor = Fraction(str(scales[1][1])) / Fraction(str(scales[0][1]))
    return Expr("unit", Expr("add", left.args[0], Expr("mul", Expr("num", factor, None), right.args[0])), left.args[1])
