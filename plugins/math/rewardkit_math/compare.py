"""Whether two parsed answers are the same: structure first, then values.

Raises `Undecided` where these tiers reach no certain conclusion; a `False` is always a conclusion. What is compared by structure
(lists, tuples, sets, intervals, relations, matrices) is compared element by element down to values, and values by normal form, by
the linear independence of their monomials, and last by numbers with error bounds.
"""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from rewardkit_math import realset, text
from rewardkit_math import vocabulary as words
from rewardkit_math.errors import MathError, TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr, neg, symbols
from rewardkit_math.identity import same_function, same_proportion, value
from rewardkit_math.normal import Normalizer, Poly, as_rational, is_basis, proportion
from rewardkit_math.policy import Policy
from rewardkit_math.shapes import (
    EQUALS,
    FLIPPED,
    PI,
    SETS,
    assigned,
    bare,
    cleared,
    distinct,
    ends,
    entries,
    in_radians,
    infinity,
    is_matrix,
    is_product,
    is_region,
    items,
    literal,
    names_like,
    names_of,
    opened,
    outside_functions,
    settled,
    spelled,
    terminates,
    unit_of,
    unwrapped,
    vector,
    without_degrees,
)

TIERS = ("text", "rational", "normal form", "structure", "numeric", "symbolic")
MAX_ITEMS = 60
_NORMALS = {log: Normalizer(log) for log in ("", "e", "10")}


class Comparison:
    """One comparison. `tier` is the deepest tier that it needed; `open` holds pairs of values that it left undecided."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.depth = 0
        self._tier = 0

    @property
    def tier(self) -> str:
        """The name of the deepest tier that was needed so far."""
        return TIERS[self._tier]

    def at(self, tier: str) -> None:
        """Note that `tier` was needed."""
        self._tier = max(self._tier, TIERS.index(tier))

    # ---- structure

    def equal(self, a: Expr, b: Expr) -> bool:
        """Whether the prediction `a` and the reference `b` are the same answer."""
        if a == b:
            return True
        self.depth += 1
        if self.depth > 24:
            raise TooLarge("answers nested too deeply")
        try:
            return self._equal(a, b)
        finally:
            self.depth -= 1

    def _equal(self, a: Expr, b: Expr) -> bool:
        if a.head == "choice" or b.head == "choice":
            return self.chosen(a, b)
        a, b = opened(a), opened(b)
        if a == b:
            return True
        if a.head == "cond" or b.head == "cond":
            return self.conditional(a, b)
        if "text" in (a.head, b.head) or (a.head == b.head == "word"):
            return self.same_words(a, b)
        if a.head == "clock" or b.head == "clock":
            return self.clocks(a, b)
        if a.head == "rel" or b.head == "rel":
            decided = self.related(a, b)
            if decided is not None:
                return decided
        left, right = items(a), items(b)
        if left is not None or right is not None:
            return self.listed(a, b, left, right)
        sets = self.real_sets(a, b)
        if sets is not None:
            return sets
        if a.head in SETS or b.head in SETS:
            return self.collections(a, b)
        if is_matrix(a) or is_matrix(b):
            return self.matrices(a, b)
        if a.head == "cases" or b.head == "cases":
            return self.piecewise(a, b)
        if a.head == "pmod" or b.head == "pmod":
            return a.head == b.head and self.equal(a.args[0], b.args[0]) and self.equal(a.args[1], b.args[1])
        if a.head == b.head == "ratio" and len(a.args) == len(b.args) > 2:
            pairs = [Expr("ratio", x, y) for e in (a, b) for x, y in zip(e.args, e.args[1:], strict=False)]
            half = len(pairs) // 2
            return all(self.value(x, y) for x, y in zip(pairs[:half], pairs[half:], strict=True))
        infinite = [infinity(e) for e in (a, b)]
        if infinite[0] or infinite[1]:
            return infinite[0] == infinite[1]
        return self.value(a, b)

    def conditional(self, a: Expr, b: Expr) -> bool:
        """`1/x for x ≠ 0`: the values must agree, and so must the conditions where both sides state one."""
        left, right = (e.args if e.head == "cond" else (e, None) for e in (a, b))
        if not self.equal(left[0], right[0]):
            return False
        if left[1] is None or right[1] is None:
            return True
        if left[1].head == "text" or right[1].head == "text":
            if left[1].head == right[1].head and text.plain(left[1].args[0]) == text.plain(right[1].args[0]):
                return True
            raise Undecided("conditions in words")
        return self.equal(left[1], right[1])

    def same_words(self, a: Expr, b: Expr) -> bool:
        self.at("text")
        first, second = (spelled(e) for e in (a, b))
        if first is not None and second is not None and first == second:
            return True
        if a.head == b.head == "word" and all(is_product(e.args[0]) for e in (a, b)):
            return self.value(a, b)
        for side, other in ((a, b), (b, a)):
            if side.head == "text":
                word = side.args[0].strip().casefold()
                if word in words.NUMBER_WORDS:
                    return self.equal(Expr("num", words.NUMBER_WORDS[word], None), other)
        return False

    def chosen(self, a: Expr, b: Expr) -> bool:
        """`(B) 12` against the letter, the value, or both."""
        sides = []
        for side, other in ((a, b), (b, a)):
            if side.head != "choice":
                sides.append(side)
            elif other.head == "choice" or (spelled(opened(other)) or "?") in "abcdefghij":
                sides.append(Expr("sym", side.args[0]))
            else:
                sides.append(side.args[1])
        return self.equal(*sides)

    @staticmethod
    def clocks(a: Expr, b: Expr) -> bool:
        """Times of day; one without "a.m." or "p.m." (a ratio, `4:30`) may be either."""
        times = []
        for side in (a, b):
            if side.head == "clock":
                times.append(side.args)
            elif side.head == "ratio" and len(side.args) == 2 and all(e.head == "num" for e in side.args):
                hours, minutes = (e.args[0] for e in side.args)
                times.append((hours % 12 * 60 + minutes, ""))
            else:
                return False
        return times[0][0] == times[1][0] and (times[0][1] == times[1][1] or "" in (times[0][1], times[1][1]))

    # ---- lists, tuples, sets

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
            if len(brackets) == 2 and brackets in ("()", "[]"):
                return self.same_items(*((elements, known) if swapped else (known, elements)), ordered=True)
        if is_matrix(other):
            flat = vector(other)
            return flat is not None and self.same_items(*((flat, known) if swapped else (known, flat)), ordered=True)
        if sets is not None:
            return sets
        return False

    def same_items(self, left: Sequence[Expr], right: Sequence[Expr], *, ordered: bool) -> bool:
        """Whether two lists hold the same items; `x = 1, y = 2` matches `1, 2` in that order."""
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

    def all_equal(self, pairs: list[tuple[Expr, Expr]]) -> bool:
        """Whether every pair is equal: one that certainly is not settles it, even where others are open."""
        doubt: MathError | None = None
        for x, y in pairs:
            try:
                if not self.equal(x, y):
                    return False
            except (Undecided, TooLarge) as error:
                doubt = error
        if doubt is not None:
            raise doubt
        return True

    def real_sets(self, a: Expr, b: Expr) -> bool | None:
        """The comparison as subsets of the real line, where both sides are such and at least one is no mere pair or list."""
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

    def collections(self, a: Expr, b: Expr) -> bool:
        """Tuples, intervals, sets and unions that are no subsets of the real line."""
        self.at("structure")
        if a.head == b.head == "seq":
            first, second = a.args[0], b.args[0]
            left, right = list(a.args[1:]), list(b.args[1:])
            if "{}" in (first, second):
                if first != second:
                    single, other = (left, b) if first == "{}" else (right, a)
                    return len(single) == 1 and self.equal(
                        *((single[0], other) if first == "{}" else (other, single[0]))
                    )
                left, right = ([e for item in side for e in (items(item) or [item])] for side in (left, right))
                return self.same_items(left, right, ordered=False)
            if first != second and (len(left) == 2 or len(right) == 2):
                same_ends = {first.replace("]", "[").count("["), second.replace("]", "[").count("[")}
                if len(same_ends) > 1 or ({first, second} != {"[[", "[)"} and {first, second} != {"][", "()"}):
                    return False
            if len(left) != len(right):
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

    # ---- relations

    def related(self, a: Expr, b: Expr) -> bool | None:
        """Where at least one side is a relation; None hands over to the comparison of what they have been reduced to."""
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
            names = {solved[0][0], solved[1][0]}
            if len(names) == 1:
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
            polys: list[Poly] | None = [cleared(_NORMALS[""](d)) for d in differences]
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
        ratio = proportion(_NORMALS[""](sides[0][1]), _NORMALS[""](sides[1][1]))
        return ratio is not None and (ratio > 0 or sides[0][0] == "!=")

    # ---- matrices and cases

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

    # ---- values

    def value(self, a: Expr, b: Expr) -> bool:
        """Whether two numbers or expressions are equal."""
        if a.head == "unit" or b.head == "unit":
            converted = self.units(a, b)
            if converted is None:
                return False
            a, b = converted
        a, b = unwrapped(a), unwrapped(b)
        if (a.head == "pct") != (b.head == "pct"):
            return self.percent(a, b)
        if a.head == b.head == "pct":
            return self.value(a.args[0], b.args[0])
        degrees = ["deg" in e.features and any(n.head == "deg" for n in outside_functions(e)) for e in (a, b)]
        if degrees[0] != degrees[1]:
            if self.bare_value(without_degrees(a), without_degrees(b)):
                return True
            return any(n == PI for e in (a, b) for n in outside_functions(e)) and self.bare_value(
                in_radians(a), in_radians(b)
            )
        return self.bare_value(a, b)

    def units(self, a: Expr, b: Expr) -> tuple[Expr, Expr] | None:
        """Both sides without their units, converted to the reference's; None where the units measure different things."""
        left, right = unit_of(a), unit_of(b)
        if left and right and left != right:
            known = [words.unit_scale(u) for u in (left, right)]
            if known[0] and known[1]:
                if known[0][0] != known[1][0]:
                    return None
                factor = Fraction(str(known[0][1])) / Fraction(str(known[1][1]))
                return Expr("mul", Expr("num", factor, None), bare(a)), bare(b)
        if right and not left and self.policy.units == "required":
            return None
        return bare(a), bare(b)

    def percent(self, a: Expr, b: Expr) -> bool:
        share, other = (a.args[0], b) if a.head == "pct" else (b.args[0], a)

        def same(mine: Expr) -> bool:
            return self.value(mine, other) if a.head == "pct" else self.value(other, mine)

        if self.policy.percent != "number" and same(Expr("div", share, Expr("num", 100, None))):
            return True
        return self.policy.percent != "fraction" and same(share)

    def bare_value(self, a: Expr, b: Expr) -> bool:
        if "fn:log" not in a.features and "fn:log" not in b.features:
            return self.reading(a, b, "")
        doubt: MathError | None = None
        for log in ("e", "10"):  # log without a base is natural or decadic, the same on both sides
            try:
                if self.reading(a, b, log):
                    return True
            except (Undecided, TooLarge) as error:
                doubt = error
        if doubt is not None:
            raise doubt
        return False

    def reading(self, a: Expr, b: Expr, log: str) -> bool:
        normal = _NORMALS[log]
        left = right = None
        with contextlib.suppress(Undecided, TooLarge):
            left, right = normal(a), normal(b)
        if left is not None and right is not None:
            self.at("normal form")
            if left == right:
                return True
            if self.close(a, b, left, right):
                return True
            if is_basis(left) and is_basis(right):
                return False
        self.at("numeric")
        return same_function(a, b, log or "e")

    def close(self, a: Expr, b: Expr, left: Poly, right: Poly) -> bool:
        """Whether a decimal stands for the other side: rounded correctly, or off by no more than the tolerance."""
        first, second = literal(a), literal(b)
        if (first is None and second is None) or symbols(a) or symbols(b):
            return False
        if first is not None and second is not None and first[0] == second[0]:
            return False
        exact: list[Fraction] = []
        for expr, poly in ((a, left), (b, right)):
            rational = as_rational(poly)
            if rational is None:
                ball = value(expr)
                if ball[1] is not None and ball[1].copy_abs() > Decimal("1e-20"):
                    return False
                if abs(ball[0].adjusted()) > 1000:
                    return False
                rational = Fraction(ball[0])
            exact.append(Fraction(rational))
        gap = abs(exact[0] - exact[1])
        if gap.numerator.bit_length() - gap.denominator.bit_length() > 40:
            return False
        tolerance = Fraction(self.policy.tolerance)
        # the default tolerance is meant for rounding: absolute above 1. One that the user chose is relative throughout
        scale_of = (
            abs(exact[1]) if self.policy.tolerance > 1e-6 else min(Fraction(1), max(abs(exact[0]), abs(exact[1])))
        )
        if gap <= tolerance * scale_of:
            return True
        for mine, other, poly in ((first, exact[1], right), (second, exact[0], left)):
            if mine is not None and mine[1] >= 6 and not terminates(poly):
                shown = exact[0] if mine is first else exact[1]
                if abs(shown - other) <= Fraction(1, 2) / Fraction(10) ** mine[0]:
                    return self.policy.tolerance > 0
        return False
