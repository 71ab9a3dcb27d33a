r"""`\begin{…} … \end{…}`: matrices, functions by cases, rows under one another."""

# ruff: noqa: D102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing.cursor import Cursor
from rewardkit_math.parsing.lexer import Token

_MATRIX_ENVS = frozenset(
    [
        "matrix",
        "pmatrix",
        "bmatrix",
        "Bmatrix",
        "vmatrix",
        "Vmatrix",
        "smallmatrix",
        "array",
        "psmallmatrix",
        "bsmallmatrix",
        "tabular",
    ]
)


class Environments(Cursor):
    """Everything in rows."""

    __slots__ = ()

    def environment(self, name: str) -> Expr:
        r"""Parse an environment up to its `\end`."""
        matrix = name in _MATRIX_ENVS
        if not matrix and name not in ("cases", "dcases", "rcases"):
            return self.aligned(name)
        rows: list[tuple[Expr, ...]] = []
        row: list[Expr] = []
        bars, self.bars = self.bars, 0
        while True:
            token = self.tokens[self.at]
            if token.kind == "end":
                raise ParseError(f"\\begin{{{name}}} is not ended")
            if token.kind in ("row", "endenv"):
                self.at += 1
                if row:
                    rows.append(tuple(row))
                row = []
                if token.kind == "endenv":
                    break
            elif (token.kind == "op" and token.value == "&") or token.kind in ("gap", "sep"):
                self.at += 1
            elif self.starts_condition(token):
                row.append(self.cell_condition())
            else:
                row.append(self.relation())
                if (
                    self.tokens[self.at].kind not in ("row", "endenv", "sep", "gap")
                    and self.tokens[self.at].value != "&"
                ):
                    if self.starts_condition(self.tokens[self.at]):
                        continue
                    raise ParseError(f"unexpected {self.tokens[self.at].value!r} in a {name}")
        self.bars = bars
        if not rows:
            raise ParseError(f"an empty {name}")
        if not matrix:
            return (
                Expr("cases", tuple(rows)) if any(len(r) > 1 for r in rows) else Expr("seq", "", *(r[0] for r in rows))
            )
        if len({len(r) for r in rows}) != 1:
            raise ParseError("a matrix with rows of different lengths")
        result = Expr("matrix", tuple(rows))
        return Expr("fn", "det", result) if name.startswith("v") else result

    def cell_condition(self) -> Expr:
        token = self.tokens[self.at]
        self.at += 1
        rest = token.value.strip(" ,.~").split(None, 1)
        if len(rest) > 1:
            return Expr("text", rest[1])
        follow = self.tokens[self.at]
        return Expr("text", "") if follow.kind in ("row", "endenv") else self.relation()

    def aligned(self, name: str) -> Expr:
        """Rows under one another: the alignment marks mean nothing, the rows are a list."""
        depth, end = 1, self.at
        while depth:
            token = self.tokens[end]
            if token.kind == "end":
                raise ParseError(f"\\begin{{{name}}} is not ended")
            depth += (token.kind == "begin") - (token.kind == "endenv")
            end += 1
        inner = [t for t in self.tokens[self.at : end - 1] if not (t.kind == "op" and t.value == "&")]
        self.at = end
        child = type(self)([*inner, Token("end", "")])
        child.depth = self.depth
        return child.answer()
