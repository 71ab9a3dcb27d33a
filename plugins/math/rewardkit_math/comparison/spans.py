r"""Spans of vectors with rational entries: `\operatorname{span}\{(1, 2)\}` equals `\text{span}\{(2, 4)\}`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rewardkit_math.comparison.matrices import is_matrix, vector
from rewardkit_math.errors import Undecided
from rewardkit_math.expr import Expr
from rewardkit_math.normal import as_rational, normal_form
from rewardkit_math.normal.poly import Number
from rewardkit_math.work import spend

Row = tuple[Number, ...]


def generators(expr: Expr) -> Sequence[Expr] | None:
    """Return the vectors of an expression that is a span, else None."""
    if expr.head != "mul" or len(expr.args) != 2 or expr.args[0].head not in ("text", "word"):
        return None
    name, inside = expr.args
    if name.args[0].strip().casefold() != "span":
        return None
    if inside.head == "seq" and (inside.args[0] == "{}" or all(e.head == "seq" for e in inside.args[1:])):
        found = tuple(inside.args[1:])
    else:
        found = (inside,)
    return found if all(_is_vector(e) for e in found) else None


def same_span(a: Sequence[Expr], b: Sequence[Expr]) -> bool:
    """Return whether two lists of vectors span the same space.

    Args:
        a: Tuples, rows or columns of one size.
        b: The other list.

    Raises:
        Undecided: An entry is not rational.
    """
    return _echelon([_entries(e) for e in a]) == _echelon([_entries(e) for e in b])


def _is_vector(expr: Expr) -> bool:
    if expr.head == "seq":
        return expr.args[0] in ("()", "[]") and len(expr.args) > 2
    return expr.head == "matrix" and is_matrix(expr) and vector(expr) is not None


def _entries(expr: Expr) -> Row:
    items = vector(expr) if expr.head == "matrix" else expr.args[1:]
    values = [as_rational(normal_form(item)) for item in items or ()]
    if any(value is None for value in values):
        raise Undecided("a span of vectors whose entries are not rational")
    return tuple(value for value in values if value is not None)


def _echelon(rows: list[Row]) -> list[Row] | None:
    """Return the non-zero rows of the reduced row echelon form, which is the same for all generators of a space."""
    if len({len(row) for row in rows}) > 1:
        return None
    done: list[Row] = []
    for column in range(len(rows[0]) if rows else 0):
        spend(len(rows))
        pivot = next((row for row in rows if row[column]), None)
        if pivot is None:
            continue
        rows = [row for row in rows if row is not pivot]
        scaled = tuple(Fraction(entry) / pivot[column] for entry in pivot)
        rows, done = _cleared(rows, scaled, column), [*_cleared(done, scaled, column), scaled]
    return done


def _cleared(rows: list[Row], pivot: Row, column: int) -> list[Row]:
    """Subtract the pivot's row from others, so that they have 0 in its column."""
    return [tuple(x - row[column] * y for x, y in zip(row, pivot, strict=True)) for row in rows]
