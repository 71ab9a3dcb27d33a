"""Matrices, and functions by cases."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

from rewardkit_math.comparison.matrices import entries, is_matrix
from rewardkit_math.comparison.parts import Part
from rewardkit_math.errors import MathError, Undecided
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
        """Functions by cases: where the same conditions occur, the values beside them decide."""
        self.at("structure")
        if a.head != b.head or len(a.args[0]) != len(b.args[0]):
            raise Undecided("functions by cases")
        pairs: list[tuple[Expr, Expr]] = []
        free = list(b.args[0])
        for row in a.args[0]:
            match = next((r for r in free if self.same_conditions(row[1:], r[1:])), None)
            if match is None:
                raise Undecided("functions by cases under different conditions")
            free.remove(match)
            pairs.append((row[0], match[0]))
        return self.all_equal(pairs)

    def same_conditions(self, a: tuple[Expr, ...], b: tuple[Expr, ...]) -> bool:
        """Whether two rows hold under the same conditions, for all that is known."""
        try:
            return len(a) == len(b) and self.all_equal(list(zip(a, b, strict=True)))
        except MathError:
            return False
