"""Parsing of values with words after them: units, percent, "million"."""

from __future__ import annotations

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing.cursor import Cursor
from rewardkit_math.parsing.lexer import Token
from rewardkit_math.parsing.numerals import with_repetition
from rewardkit_math.units import GLUE, LETTERS, UNITS, symbols_in, unit

_REPEATING = frozenset(("repeating", "recurring"))


class Quantities(Cursor):
    """Units and what else may follow a value."""

    __slots__ = ()

    def is_unit(self, token: Token) -> bool:
        """Return whether a word after an operand is a unit (in `2 cm`), rather than a factor or prose."""
        if self.starts_condition(token):
            return True
        before = self.tokens[self.at - 1]
        return (
            symbols_in(token.value) is not None
            or token.value in GLUE
            or (before.kind in ("num", "close") or before.value in ("}", "%"))
            or before.kind == "word"
        )

    @staticmethod
    def names_unit(token: Token) -> bool:
        """Return whether a token may follow the slash of `km/h`."""
        return token.kind in ("text", "word") or (token.kind == "var" and token.value in UNITS)

    def goes_on(self, token: Token) -> bool:
        """Return whether a letter goes on with the unit before it: the m of `5 kg m/s`."""
        return (
            token.kind == "var"
            and token.spaced
            and token.value in LETTERS
            and self.tokens[self.at - 1].kind in ("word", "text")
        )

    def unit(self, left: Expr) -> Expr:
        """Return a unit after a value; several words are one unit, and so is what they are raised to or divided by."""
        parts: list[str] = []
        while True:
            token = self.tokens[self.at]
            if token.kind in ("text", "word") or (
                parts
                and (
                    (parts[-1] in "/*" and token.kind == "var") or (unit(parts[-1]) is not None and self.goes_on(token))
                )
            ):
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
            elif token.kind == "op" and token.value in ("/", "*") and self.names_unit(self.tokens[self.at + 1]):
                parts.append(token.value)
                self.at += 1
            elif token.kind == "op" and token.value == ".":
                self.at += 1
            else:
                break
        written = " ".join(part for part in parts if part).removesuffix(" and")
        lowered = written.casefold()
        if left.head == "num" and lowered in _REPEATING:
            return with_repetition(left, self.tokens[self.at - 2].value)
        if lowered in ("percent", "percentage", "pct"):
            return Expr("pct", left)
        if lowered in ("degrees", "degree", "deg"):
            return Expr("deg", left)
        if lowered in ("squared", "cubed") and left.head == "num":
            return Expr("pow", left, Expr("num", 2 if lowered == "squared" else 3, None))
        scale = {
            "dozen": 12,
            "dozens": 12,
            "hundred": 100,
            "thousand": 1000,
            "million": 10**6,
            "billion": 10**9,
            "trillion": 10**12,
        }.get(lowered.split(" ")[0])
        if scale:
            left = Expr("mul", left, Expr("num", scale, None))
            written = written.partition(" ")[2]
            if not written:
                return left
        if left.head == "unit":  # $12 per hour
            return Expr("unit", left.args[0], f"{left.args[1]} {written}")
        return Expr("unit", left, written)


def joined_units(left: Expr, right: Expr) -> Expr:
    """Return the sum of two quantities in the first unit: `2 hours 30 minutes`."""
    first, second = unit(left.args[1]), unit(right.args[1])
    if first is None or second is None or first.dimension != second.dimension:
        raise ParseError("two values with units side by side")
    factor = second.scale / first.scale
    return Expr("unit", Expr("add", left.args[0], Expr("mul", Expr("num", factor, None), right.args[0])), left.args[1])


def added(left: Expr, right: Expr) -> Expr | None:
    r"""Return the sum of two terms of which the second has a unit: `10 + 5\sqrt{3}\text{ cm}`, `2 m + 50 cm`."""
    if right.head != "unit":
        return None
    if left.head == "unit":
        first, second = unit(left.args[1]), unit(right.args[1])
        if first is None or second is None or first.dimension != second.dimension:
            return None
        factor = Expr("num", second.scale / first.scale, None)
        return Expr("unit", Expr("add", left.args[0], Expr("mul", factor, right.args[0])), left.args[1])
    if not left.features.isdisjoint(("unit", "text", "word", "rel")):
        return None
    return Expr("unit", Expr("add", left, right.args[0]), right.args[1])


def multiplied(left: Expr, right: Expr) -> Expr | None:
    r"""Return the product of two factors of which one has a unit: `5\times10^{3}\ \text{kg}`, `3 m \times 4 m`."""
    if left.head == right.head == "unit":
        if unit(left.args[1]) is None or unit(right.args[1]) is None:
            return None
        return Expr("unit", Expr("mul", left.args[0], right.args[0]), f"{left.args[1]} * {right.args[1]}")
    if right.head == "unit" and left.head not in ("text", "word"):
        return Expr("unit", Expr("mul", left, right.args[0]), right.args[1])
    if left.head == "unit" and right.head in ("num", "pow", "fn", "div", "const"):
        return Expr("unit", Expr("mul", left.args[0], right), left.args[1])
    return None


def written_unit(expr: Expr) -> str | None:
    r"""Return the unit that an expression of words only spells: `\frac{\text{miles}}{\text{hour}}`; None for any other."""
    head = expr.head
    if head in ("text", "word"):
        word: str = expr.args[0].strip()
        return word if head == "text" or word in UNITS else None
    if head == "pow" and expr.args[1].head == "num":
        base = written_unit(expr.args[0])
        return base and f"{base}^{expr.args[1].args[0]}"
    if head == "unit":
        before = written_unit(expr.args[0])
        return before and f"{before} {expr.args[1].strip()}"
    if head in ("div", "mul"):
        parts = [written_unit(part) for part in expr.args]
        return None if None in parts else (" / " if head == "div" else " ").join(str(part) for part in parts)
    return None
