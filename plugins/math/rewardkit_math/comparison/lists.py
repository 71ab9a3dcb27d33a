"""Lists, tuples, sets, intervals, unions."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

from collections.abc import Sequence

from rewardkit_math.comparison import realset
from rewardkit_math.comparison.matrices import is_matrix, vector
from rewardkit_math.comparison.names import as_roots, assigned, grouped, names_of
from rewardkit_math.comparison.parts import Part
from rewardkit_math.comparison.shapes import SETS, distinct, is_region, items
from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr

MAX_ITEMS = 60


_FRENCH = {"[[": "[)", "]]": "(]", "][": "()"}
"""Intervals in the notation that turns brackets round, and what they are in the other one."""


class Lists(Part):
    """Answers of several values."""

    def listed(self, a: Expr, b: Expr, left: list[Expr] | None, right: list[Expr] | None) -> bool:
        self.at("structure")
        if left is not None and right is not None:
            return self.same_items(left, right, ordered=self.policy.list_order)
        known, other, swapped = (left, b, False) if left is not None else (right, a, True)
        assert known is not None  # noqa: S101 - one of the two is a list
        sets = self.real_sets(a, b)
        if sets is not None and sets:
            return True
        if other.head == "seq":
            brackets, elements = other.args[0], list(other.args[1:])
            if brackets == "{}":
                elements = [e for item in elements for e in (items(item) or [item])]
                return self.same_items(*((elements, known) if swapped else (known, elements)), ordered=False)
            if brackets == "or":
                return bool(sets)
            if len(brackets) == 2 and brackets in ("()", "[]"):
                return self.same_items(*((elements, known) if swapped else (known, elements)), ordered=True)
        if is_matrix(other):
            flat = vector(other)
            return flat is not None and self.same_items(*((flat, known) if swapped else (known, flat)), ordered=True)
        if sets is not None:
            return sets
        return all(self.equal(*((other, item) if swapped else (item, other))) for item in known)  # 1/4 or 25%

    def same_items(self, left: Sequence[Expr], right: Sequence[Expr], *, ordered: bool) -> bool:
        """Return whether two lists hold the same items; `x = 1, y = 2` matches `1, 2` in that order."""
        left, right = grouped(left, right)
        left, right = as_roots(left), as_roots(right)
        names = [names_of(side) for side in (left, right)]
        if (names[0] is None) != (names[1] is None):
            known = names[0] or names[1] or []
            left, right = ([assigned(e)[1] if assigned(e) else e for e in side] for side in (left, right))  # type: ignore[index]
            ordered = ordered or len(set(known)) > 1
        if len(left) != len(right):
            left, right = distinct(left), distinct(right)
            if len(left) != len(right):
                return False
        if len(left) > MAX_ITEMS:
            raise TooLarge("a list of too many items")
        if ordered:
            return self.all_equal(list(zip(left, right, strict=True)))
        free = list(right)
        doubt: Undecided | None = None
        for item in left:
            for index, candidate in enumerate(free):
                try:
                    if self.equal(item, candidate):
                        del free[index]
                        break
                except Undecided as error:
                    doubt = error
            else:
                if doubt is not None:
                    raise doubt
                return False
        return True

    def real_sets(self, a: Expr, b: Expr) -> bool | None:
        """Compare two sides as subsets of the real line; None unless both are such sets and one isn't merely a pair or list."""
        if not (is_region(a) or is_region(b)):
            return None
        found = []
        for side in (a, b):
            try:
                pieces = realset.from_expr(side)
                if pieces is None:
                    solved = realset.from_relation(side)
                    pieces = solved[1] if solved else None
            except (Undefined, TooLarge):
                pieces = None
            if pieces is None:
                return None
            found.append(pieces)
        self.at("structure")
        return realset.equal(*found)

    @staticmethod
    def same_brackets(first: str, second: str, size: int) -> bool:
        """Return whether two pairs of brackets agree: those of intervals must be the same, (1, 2, 3) and [1, 2, 3] are one vector."""
        first, second = _FRENCH.get(first, first), _FRENCH.get(second, second)
        return first == second or (size != 2 and {first, second} == {"()", "[]"})

    def collections(self, a: Expr, b: Expr) -> bool:
        """Compare tuples, intervals, sets and unions that aren't subsets of the real line."""
        self.at("structure")
        if a.head == b.head == "seq":
            first, second = a.args[0], b.args[0]
            left, right = list(a.args[1:]), list(b.args[1:])
            if first == second == "or":
                return self.same_items(left, right, ordered=False)
            if "{}" in (first, second):
                if first != second:
                    single, other = (left, b) if first == "{}" else (right, a)
                    return len(single) == 1 and self.equal(
                        *((single[0], other) if first == "{}" else (other, single[0]))
                    )
                left, right = ([e for item in side for e in (items(item) or [item])] for side in (left, right))
                return self.same_items(left, right, ordered=False)
            if len(left) != len(right) or not self.same_brackets(first, second, len(left)):
                return False
            return self.all_equal(list(zip(left, right, strict=True)))
        if a.head == b.head == "setop" and a.args[0] == b.args[0] and len(a.args) == len(b.args):
            if self.same_items(a.args[1:], b.args[1:], ordered=a.args[0] == "minus"):
                return True
            raise Undecided("unions of sets that are compared in parts only")
        if a.head == b.head == "builder":
            if self.equal(a.args[0], b.args[0]) and self.equal(a.args[1], b.args[1]):
                return True
            raise Undecided("sets given by conditions")
        if "builder" in (a.head, b.head) or "setop" in (a.head, b.head):
            for pair, other in ((a, b), (b, a)):
                if pair.head == "seq" and pair.args[0] != "{}" and realset.from_expr(other) is not None:
                    return False  # a point, or an interval the wrong way round
            if {a.head, b.head} <= SETS | {"const", "rel"}:
                raise Undecided("sets of different descriptions")
            return False
        for side, other, swapped in ((a, b, False), (b, a, True)):
            if side.head == "seq":
                if side.args[0] == "{}" and len(side.args) == 2:
                    return self.equal(*((other, side.args[1]) if swapped else (side.args[1], other)))
                if is_matrix(other) and side.args[0] in ("()", "[]"):
                    flat = vector(other)
                    pairs = list(zip(side.args[1:], flat or (), strict=False))
                    pairs = [(y, x) for x, y in pairs] if swapped else pairs
                    return flat is not None and len(flat) == len(side.args) - 1 and self.all_equal(pairs)
        return False
