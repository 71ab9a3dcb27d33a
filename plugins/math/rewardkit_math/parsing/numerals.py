"""Digits: what a numeral is worth, however it is written; mixed numbers, repeating decimals, other bases."""

# ruff: noqa: D102, SIM102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from fractions import Fraction

from rewardkit_math.errors import ParseError, TooLarge
from rewardkit_math.expr import Expr
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.cursor import Cursor
from rewardkit_math.parsing.lexer import Token


class Numerals(Cursor):
    """Numbers written in more than one token."""

    __slots__ = ()

    def number(self, token: Token) -> Expr:
        r"""Return a numeral, or a mixed number: `2\frac34`, `1 1/2`."""
        follow = self.tokens[self.at]
        if isinstance(token.number, int) and token.places is None:
            if follow.kind == "cmd" and follow.value == "frac":
                start = self.at
                self.at += 1
                top, bottom = self.argument(), self.argument()
                if (
                    top.head == bottom.head == "num"
                    and isinstance(top.args[0], int)
                    and isinstance(bottom.args[0], int)
                ):
                    if bottom.args[0] and top.args[0] >= 0:
                        return Expr("num", _exact(token.number + Fraction(top.args[0], bottom.args[0])), None)
                self.at = start
            elif follow.kind == "num" and follow.spaced and isinstance(follow.number, int):
                slash, bottom_token = self.tokens[self.at + 1], self.tokens[min(self.at + 2, len(self.tokens) - 1)]
                if (
                    slash.value == "/"
                    and bottom_token.kind == "num"
                    and bottom_token.number
                    and isinstance(bottom_token.number, int)
                ):
                    self.at += 3
                    return Expr("num", _exact(token.number + Fraction(follow.number, bottom_token.number)), None)
        return Expr("num", token.number, token.places)

    def subscripted(self, left: Expr) -> Expr:
        token = self.tokens[self.at]
        if left.head == "num":
            base = self.argument(whole_number=True)
            if base.head in ("text", "word") and base.args[0].strip() in words.NUMBER_WORDS:
                base = Expr("num", words.NUMBER_WORDS[base.args[0].strip()], None)
            literal = self.numeral_before(token)
            if base.head == "num" and isinstance(base.args[0], int) and literal is not None:
                return _in_base(literal, base.args[0])
            raise ParseError("a subscript on a number that is no base")
        name = self.subscript()
        if left.head == "sym":
            return Expr("sym", f"{left.args[0]}_{name}")
        if left.head == "pow" and left.args[0].head == "sym":  # x^2_1
            return Expr("pow", Expr("sym", f"{left.args[0].args[0]}_{name}"), left.args[1])
        if left.head == "call":
            return Expr("call", f"{left.args[0]}_{name}", *left.args[1:])
        if left.head in ("text", "word"):
            return Expr("sym", f"{left.args[0].strip()}_{name}")
        if left.head == "mul" and left.args[-1].head == "sym":
            return Expr("mul", *left.args[:-1], Expr("sym", f"{left.args[-1].args[0]}_{name}"))
        raise ParseError("a subscript on something that takes none")

    def numeral_before(self, token: Token) -> str | None:
        index = next(i for i in range(self.at, -1, -1) if self.tokens[i] is token) - 2
        while index > 0 and self.tokens[index].kind in ("close", "brace"):
            index -= 1
        found = self.tokens[index]
        return found.value if found.kind == "num" else None


def _exact(value: Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _in_base(literal: str, base: int) -> Expr:
    """Return a numeral in another base, such as `1012_3` and `0.11_2`."""
    digits = "".join(c for c in literal if c.isdigit() or c == ".")
    whole, _, decimals = digits.partition(".")
    if not 2 <= base <= 36 or any(int(d) >= base for d in whole + decimals):
        raise ParseError(f"{literal} is no number in base {base}")
    if len(digits) > 2000:
        raise TooLarge("a numeral of thousands of digits")
    value = Fraction(int(whole + decimals or "0", base), base ** len(decimals))
    return Expr("base", _exact(value), base)


def with_repetition(number: Expr, literal: str) -> Expr:
    """Return a decimal whose last digit repeats for ever: `0.1666 repeating`."""
    decimals = literal.partition(".")[2]
    if not decimals.isdigit():
        return number
    value = Fraction(number.args[0]) + Fraction(int(decimals[-1]), 9 * 10 ** len(decimals))
    return Expr("num", _exact(value), None)
