"""Equations, inequalities, and assignments of values to names."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

from collections.abc import Sequence

from rewardkit_math.comparison import realset
from rewardkit_math.comparison.matrices import is_matrix
from rewardkit_math.comparison.names import EQUALS, assigned, names_like, settled
from rewardkit_math.comparison.parts import Part
from rewardkit_math.comparison.shapes import FLIPPED, SETS, cleared, ends, items
from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr, neg, substitute, symbols
from rewardkit_math.normal import Poly, is_basis, normal_form, proportion
from rewardkit_math.numeric.identity import same_proportion


class Relations(Part):
    """Comparison of answers of which at least one is a relation."""

    def related(self, a: Expr, b: Expr) -> bool | None:
        """Compare two sides of which at least one is a relation; None if the values that they are reduced to must be compared."""
        self.at("structure")
        if a.head == b.head == "rel":
            return self.relations(a, b)
        relation, other, swapped = (a, b, False) if a.head == "rel" else (b, a, True)

        def pair(mine: Expr, theirs: Expr) -> tuple[Expr, Expr]:
            return (theirs, mine) if swapped else (mine, theirs)

        found = assigned(relation)
        if found is not None:
            return self.equal(*pair(found[1], other))
        operators, operands = relation.args[0], relation.args[1:]
        if all(op in EQUALS for op in operators):
            if all(not symbols(e) for e in operands if e.head != "text"):  # e^{iπ} = −1: the last side is the answer
                exact = settled(("=", *operators), (operands[0], *operands))
                return self.equal(*pair(exact, other)) or ("~" in operators and self.equal(*pair(operands[-1], other)))
            return False
        if operators == ("in",) and names_like(operands[0]):
            return self.equal(*pair(operands[1], other))
        if not swapped and not self.policy.set_relation:
            return False
        sets = self.real_sets(a, b)
        if sets is not None:
            return sets
        if other.head in SETS or other.head == "const":
            raise Undecided("a relation against a set")
        return False

    def relations(self, a: Expr, b: Expr) -> bool:
        left, right = assigned(a), assigned(b)
        if left is not None and right is not None:
            if left[0] == right[0]:
                return self.equal(left[1], right[1])
            if left[0].head == right[0].head == "call" and left[0].args[0] == right[0].args[0]:
                mine, wanted = left[0].args[1:], right[0].args[1:]
                if (
                    len(mine) == len(wanted) == 1
                    and mine[0].head == wanted[0].head == "sym"
                    and mine[0].args[0] not in symbols(right[1])
                ):
                    return self.equal(
                        substitute(left[1], mine[0].args[0], wanted[0]), right[1]
                    )  # f(t) = t² and f(x) = x²
            if (left[0].head == "call") != (right[0].head == "call") and symbols(right[1]) and symbols(left[1]):
                function, variable = (left, right) if left[0].head == "call" else (right, left)
                if not symbols(variable[0]) & symbols(function[1]):  # f(x) = 2x + 3 and y = 2x + 3
                    return self.equal(left[1], right[1])
        ops = [e.args[0] for e in (a, b)]
        if not self.policy.set_relation and ops[1] == ("in",) and ops[0] != ops[1]:
            return False
        if len(ops[0]) == len(ops[1]) == 1 and ops[0][0] in EQUALS and ops[1][0] in EQUALS:
            return self.equations(a, b)
        if ops[0] == ops[1] and all(
            op in ("in", "notin", "to", "subset", "similar", "parallel", "perp", "propto") for op in ops[0]
        ):
            return self.all_equal(list(zip(a.args[1:], b.args[1:], strict=True)))
        try:
            solved = [realset.from_relation(e) for e in (a, b)]
        except (Undefined, TooLarge):
            solved = [None, None]
        if solved[0] is not None and solved[1] is not None:
            names = {solved[0][0], solved[1][0]} - {"?"}
            if len(names) <= 1:
                return realset.equal(solved[0][1], solved[1][1])
            return False
        if len(ops[0]) == len(ops[1]):
            if ops[0] == ops[1] and self._sides(a.args[1:], b.args[1:]):
                return True
            flipped = tuple(FLIPPED.get(op, op) for op in reversed(ops[1]))
            if ops[0] == flipped and self._sides(a.args[1:], tuple(reversed(b.args[1:]))):
                return True
            if len(ops[0]) == 1:
                return self.inequalities(a, b)
        if all(op in EQUALS for op in ops[0] + ops[1]):
            return self.equal(ends(a), ends(b)) if len(ops[0]) > 1 or len(ops[1]) > 1 else False
        if set(ops[0]) & set(FLIPPED) and set(ops[1]) & set(FLIPPED):
            return False
        return False

    def _sides(self, left: Sequence[Expr], right: Sequence[Expr]) -> bool:
        try:
            return self.all_equal(list(zip(left, right, strict=True)))
        except (Undecided, TooLarge):
            return False

    def equations(self, a: Expr, b: Expr) -> bool:
        """Two equations are the same when one is a constant multiple of the other."""
        differences = []
        for e in (a, b):
            lhs, rhs = e.args[1], e.args[2]
            if is_matrix(lhs) or is_matrix(rhs) or lhs.head in SETS or rhs.head in SETS or items(lhs) or items(rhs):
                return self.all_equal(list(zip(a.args[1:], b.args[1:], strict=True)))
            differences.append(Expr("add", lhs, neg(rhs)))
        try:
            polys: list[Poly] | None = [cleared(normal_form(d)) for d in differences]
        except Undefined:
            return False
        except (Undecided, TooLarge):
            polys = None
        if polys is not None:
            self.at("normal form")
            if polys[0] == polys[1] or proportion(polys[0], polys[1]) is not None:
                return True
            if all(is_basis(p) for p in polys):
                return False
        self.at("numeric")
        return same_proportion(differences[0], differences[1])

    def inequalities(self, a: Expr, b: Expr) -> bool:
        """Two inequalities are the same when one is a positive multiple of the other."""
        sides = []
        for e in (a, b):
            operator, lhs, rhs = e.args[0][0], e.args[1], e.args[2]
            if operator in (">", ">="):
                operator, lhs, rhs = FLIPPED[operator], rhs, lhs
            if operator not in ("<", "<=", "!="):
                return False
            sides.append((operator, Expr("add", lhs, neg(rhs))))
        if sides[0][0] != sides[1][0]:
            return False
        ratio = proportion(normal_form(sides[0][1]), normal_form(sides[1][1]))
        return ratio is not None and (ratio > 0 or sides[0][0] == "!=")
