"""Parsing of brackets: a value in parentheses, tuples, intervals, sets, ⌊x⌋ and |x|."""

# ruff: noqa: D102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing.cursor import Cursor


class Brackets(Cursor):
    """Brackets and bars."""

    __slots__ = ()

    def bracketed(self, opening: str) -> Expr:
        """Parse the content of a bracket: a value in parentheses, a tuple, an interval, a set or ⌊x⌋."""
        token = self.tokens[self.at]
        if token.kind == "close" and token.value in (")", "]", "}", "⟩"):
            self.at += 1
            return Expr("const", "empty") if opening == "{" else Expr("seq", opening + token.value)
        bars, self.bars = self.bars, 0
        if opening == "|":
            self.bars = bars
            return self.absolute("|")
        if opening == "‖":
            self.bars = bars
            return self.absolute("‖")
        if opening == "{":
            self.builder += 1
        integrals, self.integrals = self.integrals, 0
        inside = self.items("close", "")
        self.integrals = integrals
        self.bars = bars
        token = self.tokens[self.at]
        if opening == "{":
            self.builder -= 1
            if (token.kind == "op" and token.value in ("|", ":")) or (token.kind == "rel" and token.value == "|"):
                self.at += 1
                condition = self.items("close", "")
                token = self.tokens[self.at]
                self.at += 1
                if token.kind != "close":
                    raise ParseError("a brace is not closed")
                return Expr("builder", inside, condition)
            if inside.head == "ratio" and token.kind == "close" and inside.args[-1].head in ("rel", "cond"):
                self.at += 1
                return Expr("builder", inside.args[0], inside.args[-1])
        closing = token.value
        if token.kind == "open" and closing == "[" and opening in "[](":
            pass
        elif token.kind == "brace" and closing == "}" and opening == "{":
            closing = "}"
        elif token.kind != "close":
            if (
                opening == "{" and inside.head in ("matrix", "seq") and token.kind in ("end", "sep")
            ):  # \\left\\{ … \\right.
                return _system(inside)
            raise ParseError("a bracket is not closed")
        self.at += 1
        if opening == "⌊":
            return Expr("fn", "floor", inside)
        if opening == "⌈":
            return Expr("fn", "ceil", inside)
        items = inside.args[1:] if inside.head == "seq" and inside.args[0] == "" else (inside,)
        if opening == "⟨":  # a vector, never an interval
            return Expr("matrix", (tuple(items),), "⟨⟩") if len(items) > 1 else Expr("seq", "()", *items)
        if opening == "{":
            return Expr("seq", "{}", *items)
        if len(items) == 1:
            return inside
        return Expr("seq", opening + closing, *items)

    def closes_interval(self) -> bool:
        """Return whether `[` ends a French interval: `[1, 2[`."""
        follow = self.tokens[self.at + 1]
        return follow.kind in ("end", "sep", "brace") or (
            follow.kind == "op" and follow.value in ("union", "inter", "minus")
        )

    def absolute(self, bar: str) -> Expr:
        self.bars += 1
        inside = self.expr(0)
        self.bars -= 1
        token = self.tokens[self.at]
        if token.value != bar:
            raise ParseError("a bar is not closed")
        self.at += 1
        return Expr("fn", "det" if inside.head == "matrix" else "abs", inside)


def _system(inside: Expr) -> Expr:
    """Return the rows after a single brace: cases, or relations that hold together."""
    if inside.head == "seq":
        return inside
    rows = inside.args[0]
    return Expr("cases", rows) if len(rows[0]) > 1 else Expr("seq", "", *(row[0] for row in rows))
