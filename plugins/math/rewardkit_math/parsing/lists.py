"""Answers in a row, relations, and conditions after them."""

# ruff: noqa: D102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.cursor import Cursor
from rewardkit_math.parsing.lexer import Token
from rewardkit_math.parsing.quantities import joined_units
from rewardkit_math.units import unit


class Lists(Cursor):
    """One answer or several."""

    __slots__ = ()

    def answer(self) -> Expr:
        """Return the whole input: one relation, or several with separators between them, perhaps with a condition after."""
        result = self.items("end", "")
        if self.tokens[self.at].kind != "end":
            raise ParseError(f"unexpected {self.tokens[self.at].value!r}")
        return result

    def items(self, closing_kind: str, closing: str) -> Expr:
        """Relations with separators between them, up to a closing token that is left in place."""
        found: list[Expr] = []
        condition: Expr | None = None
        separated = alternatives = False
        while True:
            token = self.tokens[self.at]
            while token.kind in ("sep", "gap", "row") or (token.kind == "op" and token.value == "."):
                separated = separated or token.kind != "op"
                alternatives = alternatives or token.value == "or"
                self.at += 1
                token = self.tokens[self.at]
            if token.kind == closing_kind and (not closing or token.value == closing):
                break
            if token.kind == "end" or (found and not separated):
                break
            if found and self.starts_condition(token):
                condition = self.condition()
                break
            if token.kind == "op" and token.value == "dots":
                self.at += 1
                found.append(Expr("sym", "…"))
            else:
                found.append(self.relation())
            separated = False
            token = self.tokens[self.at]
            if token.kind in ("text", "word") and self.starts_condition(token):
                condition = self.condition()
                break
            if token.kind == "open" and token.value == "(" and self.holds_relation():
                self.at += 1
                condition = self.bracketed("(")
                break
        if not found:
            raise ParseError("nothing there")
        if len(found) == 2 and found[0].head == found[1].head == "unit" and self.adds_up(*found):
            return joined_units(*found)
        if (
            len(found) == 2 and condition is None and (found[0].head != "seq" or found[0].args[0]) and _ranges(found[1])
        ):  # kπ, k ∈ Z
            condition = found.pop()
        alternatives = (
            alternatives and all(e.head == "rel" for e in found) and any(set(e.args[0]) - {"="} for e in found)
        )
        value = found[0] if len(found) == 1 else Expr("seq", "or" if alternatives else "", *found)
        return Expr("cond", value, condition) if condition is not None else value

    @staticmethod
    def adds_up(first: Expr, second: Expr) -> bool:
        """Return whether two values make one: 2 hours and 30 minutes."""
        large, small = unit(first.args[1]), unit(second.args[1])
        return (
            large is not None
            and small is not None
            and large.dimension == small.dimension
            and large.scale > small.scale
            and second.args[0].head == "num"
            and second.args[0].args[0] * small.scale < large.scale
        )

    def starts_condition(self, token: Token) -> bool:
        return (
            token.kind in ("text", "word")
            and token.value.strip(" ,.(~\\").split(" ", 1)[0].casefold() in words.CONDITIONS
        )

    def condition(self) -> Expr:
        token = self.tokens[self.at]
        self.at += 1
        rest = token.value.strip(" ,.~").split(None, 1)
        if len(rest) > 1:
            while self.tokens[self.at].kind not in ("end", "close", "brace"):
                self.at += 1
            return Expr("text", token.value)
        return self.items("end", "")

    def relation(self) -> Expr:
        token = self.tokens[self.at]
        if token.kind == "rel" and token.value in ("=", "~", "=>"):  # "= 5"
            self.at += 1
        unnamed = token.kind == "rel" and token.value in ("<", ">", "<=", ">=", "!=") and not self.at  # "≥ 5"
        left = Expr("sym", "?") if unnamed else self.expr(0)
        token = self.tokens[self.at]
        if token.kind != "rel":
            return left
        operators: list[str] = []
        operands = [left]
        while token.kind == "rel":
            self.at += 1
            follow = self.tokens[self.at]
            if follow.kind in ("end", "sep") and token.value in ("=", "~"):
                break
            operators.append(token.value)
            operands.append(self.expr(0))
            token = self.tokens[self.at]
        if not operators:
            return left
        return Expr("rel", tuple(operators), *operands)


def _ranges(expr: Expr) -> bool:
    """Return whether an expression says what a parameter ranges over: `k ∈ Z`."""
    return (
        expr.head == "rel"
        and expr.args[0] == ("in",)
        and expr.args[1].head == "sym"
        and expr.args[2].head in ("const", "text")
    )
