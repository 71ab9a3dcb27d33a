"""Matrices, and functions by cases."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

from rewardkit_math.comparison.parts import Part
from rewardkit_math.comparison.shapes import entries, is_matrix
from rewardkit_math.errors import Undecided
from rewardkit_math.expr import Expr


class Tables(Part):
    """Answers in rows."""

    def matrices(self, a: Expr, b: Expr) -> bool:
        self.at("structure")
        if not (is_matrix(a) and is_matrix(b)):
            return False
        left, right = entries(a), entries(b)
        if len(left) != len(right) or len(left[0]) != len(right[0]):
            return False
        return self.all_equal([(x, y) for r, s in zip(left, right, strict=True) for x, y in zip(r, s, strict=True)])

    def piecewise(self, a: Expr, b: Expr) -> bool:
        self.at("structure")
        if a.head == b.head and len(a.args[0]) == len(b.args[0]):
            rows = [[Expr("seq", "()", *row) for row in e.args[0]] for e in (a, b)]
            if self.same_items(rows[0], rows[1], ordered=False):
                return True
        raise Undecided("functions by cases")
