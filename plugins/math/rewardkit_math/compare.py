"""Whether two parsed answers are the same: structure first, then values.

Raises `Undecided` where these tiers reach no certain conclusion; a `False` is always a conclusion. What is compared by structure
(lists, tuples, sets, intervals, relations, matrices) is compared element by element down to values, and values by normal form, by
the linear independence of their monomials, and last by numbers with error bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from rewardkit_math import realset, text
from rewardkit_math import vocabulary as words
from rewardkit_math.errors import MathError, ParseError, TooLarge, Undecided, Undefined
from rewardkit_math.expr import MINUS_ONE, Expr, neg, symbols
from rewardkit_math.normal import Normalizer, Poly, add, as_rational, is_basis, proportion, scale
from rewardkit_math.numeric import same_function, same_proportion, value
from rewardkit_math.parser import parse
from rewardkit_math.policy import Policy

TIERS = ("text", "rational", "normal form", "structure", "numeric", "symbolic")
MAX_ITEMS = 60
_EQUALS = frozenset(("=", "~", "=="))
_SETS = frozenset(("seq", "setop", "builder"))
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
        if a.head in _SETS or b.head in _SETS:
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
        if a.head == b.head == "word" and all(_is_product(e.args[0]) for e in (a, b)):
            return self.value(a, b)
        for side, other in ((a, b), (b, a)):
            if side.head == "text":
                word = side.args[0].strip().casefold()
                if word in words.NUMBER_WORDS:
                    return self.equal(Expr("num", words.NUMBER_WORDS[word], None), other)
        return False

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
                    return False
                left, right = ([e for item in side for e in (items(item) or [item])] for side in (left, right))
                return self.same_items(left, right, ordered=False)
            if first != second and (len(left) == 2 or len(right) == 2):
                same_ends = {first.replace("]", "[").count("["), second.replace("]", "[").count("[")}
                if len(same_ends) > 1 or {first, second} != {"[[", "[)"} and {first, second} != {"][", "()"}:
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
            if {a.head, b.head} <= _SETS | {"const", "rel"}:
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
        if all(op in _EQUALS for op in operators):
            if all(not symbols(e) for e in operands if e.head != "text"):  # e^{iπ} = −1: the last side is the answer
                return self.equal(*pair(settled(operators, operands), other))
            return False
        if operators == ("in",) and names_like(operands[0]):
            return self.equal(*pair(operands[1], other))
        if not swapped and not self.policy.set_relation:
            return False
        sets = self.real_sets(a, b)
        if sets is not None:
            return sets
        if other.head in _SETS or other.head == "const":
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
        if len(ops[0]) == len(ops[1]) == 1 and ops[0][0] in _EQUALS and ops[1][0] in _EQUALS:
            return self.equations(a, b)
        if ops[0] == ops[1] and all(op in ("in", "notin", "to", "subset", "similar", "parallel", "perp", "propto") for op in ops[0]):
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
            flipped = tuple(_FLIPPED.get(op, op) for op in reversed(ops[1]))
            if ops[0] == flipped and self._sides(a.args[1:], tuple(reversed(b.args[1:]))):
                return True
            if len(ops[0]) == 1:
                return self.inequalities(a, b)
        if all(op in _EQUALS for op in ops[0] + ops[1]):
            return self.equal(_ends(a), _ends(b)) if len(ops[0]) > 1 or len(ops[1]) > 1 else False
        if set(ops[0]) & set(_FLIPPED) and set(ops[1]) & set(_FLIPPED):
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
            if is_matrix(lhs) or is_matrix(rhs) or lhs.head in _SETS or rhs.head in _SETS or items(lhs) or items(rhs):
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
                operator, lhs, rhs = _FLIPPED[operator], rhs, lhs
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
            return any(n == _PI for e in (a, b) for n in outside_functions(e)) and self.bare_value(in_radians(a), in_radians(b))
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
        try:
            left, right = normal(a), normal(b)
        except (Undecided, TooLarge):
            pass
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
        scale_of = abs(exact[1]) if self.policy.tolerance > 1e-6 else min(Fraction(1), max(abs(exact[0]), abs(exact[1])))
        if gap <= tolerance * scale_of:
            return True
        for mine, other, poly in ((first, exact[1], right), (second, exact[0], left)):
            if mine is not None and mine[1] >= 6 and not terminates(poly):
                shown = exact[0] if mine is first else exact[1]
                if abs(shown - other) <= Fraction(1, 2) / Fraction(10) ** mine[0]:
                    return self.policy.tolerance > 0
        return False


# ---- small questions about expressions

_PI = Expr("const", "pi")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
_WORDLIKE = frozenset(("text", "word"))


def opened(expr: Expr) -> Expr:
    """`expr` without wrappers that carry no meaning: `\\text{(E)}`, a set in `x ∈ S` stays; words become text."""
    if expr.head == "text":
        content = expr.args[0].strip(" ,;:~").removesuffix(".") if expr.args[0].count(".") == 1 else expr.args[0].strip(" ,;:~")
        if " " in content and "," not in content and not any(c.isdigit() for c in content):
            return Expr("text", content)
        try:
            inside = parse(content)
        except MathError:
            return Expr("text", content)
        return Expr("text", content) if inside.head in ("word", "mul", "cond") else inside
    if expr.head == "word" and expr.args[0].casefold() in words.TEXT_ANSWERS | words.NUMBER_WORDS.keys():
        return Expr("text", expr.args[0])
    if expr.head == "unit" and expr.args[0].head == "seq":
        return Expr("seq", *expr.args[0].args)
    return expr


def _is_product(letters: str) -> bool:
    """Whether letters in a row may be factors (`abcd`, `xyzw`) rather than a word: lower case, no vowel but a."""
    return letters.islower() and not set(letters) & set("eiou")


def spelled(expr: Expr) -> str | None:
    """The letters that an expression is written with, where it is nothing but letters."""
    if expr.head in _WORDLIKE:
        return text.plain(expr.args[0])
    if expr.head == "sym":
        return text.plain(expr.args[0])
    if expr.head == "const":
        return str(expr.args[0])
    if expr.head == "mul" and all(e.head in ("sym", "word", "text", "const") for e in expr.args):
        return "".join(spelled(e) or "" for e in expr.args)
    if expr.head == "seq" and expr.args[0] == "":
        return "".join((spelled(e) or "?") for e in expr.args[1:])
    return None


def items(expr: Expr) -> list[Expr] | None:
    """The items of a bare list, with ± written out; None where `expr` is no list."""
    if expr.head == "seq" and expr.args[0] == "":
        found = [e for item in expr.args[1:] for e in (items(item) or [item])]
        return spread_name(found)
    if expr.head in ("add", "mul", "div", "pm", "pow", "fn", "unit", "deg", "rel") and "pm" in expr.features:
        if expr.head == "rel" and (len(expr.args) != 3 or expr.args[0][0] not in _EQUALS):
            return None
        return [with_sign(expr, 1), with_sign(expr, -1)]
    if expr.head == "rel" and len(expr.args) == 3 and expr.args[0][0] in _EQUALS and names_like(expr.args[1]):
        inside = items(expr.args[2])
        if inside is not None:
            return [Expr("rel", ("=",), expr.args[1], e) for e in inside]
    return None


def spread_name(found: list[Expr]) -> list[Expr]:
    """`x = 1, 2, 3` is `x = 1, x = 2, x = 3`."""
    first = assigned(found[0]) if found[0].head == "rel" else None
    if first is None or any(e.head == "rel" for e in found[1:]) or not found[1:]:
        return found
    return [found[0], *(Expr("rel", ("=",), first[0], e) for e in found[1:])]


def with_sign(expr: Expr, sign: int) -> Expr:
    """`expr` with every ± read as + (sign 1) or − (sign −1), and every ∓ the other way."""
    if expr.head == "pm":
        mode, left, right = expr.args
        right = with_sign(right, sign)
        if (mode == "+-") != (sign > 0):
            right = neg(right)
        return right if left is None else Expr("add", with_sign(left, sign), right)
    return Expr(expr.head, *(with_sign(a, sign) if isinstance(a, Expr) else a for a in expr.args))


def assigned(expr: Expr) -> tuple[Expr, Expr] | None:
    """The name and the value of `x = 5`, `5 = x`, `f(x) = … = 2x`, `|AB| = 1`, `(p, q) = (3, 2)`."""
    if expr.head != "rel" or any(op not in _EQUALS for op in expr.args[0]):
        return None
    operators, operands = expr.args[0], expr.args[1:]
    if names_like(operands[0]):
        return operands[0], settled(operators, operands)
    if len(operands) == 2 and operands[1].head in ("sym", "call"):
        return operands[1], operands[0]
    return None


def settled(operators: tuple[str, ...], operands: Sequence[Expr]) -> Expr:
    """What a chain of equalities ends in, before any approximation: `x = 5 + 6 = 11 ≈ 10`."""
    last = 0
    for index, operator in enumerate(operators, 1):
        if operator == "~" and last:
            break
        last = index
    return operands[last]


def names_like(expr: Expr) -> bool:
    """Whether `expr` names a quantity: x, AB, f(x), |AB|, m∠A, V_1 : V_2, NO/BO, sin θ, (p, q); not 2x or x + y."""
    head = expr.head
    if head in ("sym", "word", "call", "text"):
        return True
    if head == "const":
        return expr.args[0] in ("i", "e")
    if head in ("mul", "div", "ratio"):
        return all(names_like(e) for e in expr.args)
    if head == "fn":
        return expr.args[0] in _NAMING and all(names_like(e) or (e.head == "num" and expr.args[0] != "abs") for e in expr.args[1:])
    if head == "seq":
        return expr.args[0] in ("()", "") and len(expr.args) > 1 and all(names_like(e) for e in expr.args[1:])
    return False


_NAMING = frozenset("abs sin cos tan cot sec csc max min det dim gcd lcm arg Re Im".split())


def names_of(found: Sequence[Expr]) -> list[Expr] | None:
    """The names in a list of assignments; None where not every item is one."""
    names = [assigned(e) for e in found]
    return [n[0] for n in names if n is not None] if names and all(n is not None for n in names) else None


def distinct(found: Sequence[Expr]) -> list[Expr]:
    """`found` without repetitions."""
    return list(dict.fromkeys(found))


def is_region(expr: Expr) -> bool:
    """Whether an expression is a subset of the real line beyond doubt (a pair in parentheses may also be a point)."""
    if expr.head in ("setop", "builder"):
        return True
    if expr.head == "const":
        return expr.args[0] in ("R", "empty")
    if expr.head == "seq":
        if expr.args[0] == "":
            return all(e.head == "rel" and not set(e.args[0]) <= _EQUALS for e in expr.args[1:])
        return len(expr.args) == 3 and (expr.args[0] not in ("()", "{}", "[]") or any(infinity(e) for e in expr.args[1:]))
    return expr.head == "rel" and not set(expr.args[0]) <= _EQUALS


def infinity(expr: Expr) -> int:
    """1 for ∞, −1 for −∞, else 0."""
    return realset.end(expr).sign if expr.head in ("const", "mul") else 0


def is_matrix(expr: Expr) -> bool:
    """Whether `expr` is a matrix, or computed from matrices."""
    if expr.head == "matrix":
        return True
    if expr.head in ("add", "mul"):
        return any(is_matrix(e) for e in expr.args)
    if expr.head in ("pow", "div"):
        return is_matrix(expr.args[0])
    return expr.head == "fn" and expr.args[0] == "transpose"


Rows = list[list[Expr]]


def entries(expr: Expr) -> Rows:
    """The entries of a matrix, computed out where it is a sum, a product or a small power of matrices."""
    if expr.head == "matrix":
        return [list(row) for row in expr.args[0]]
    if expr.head == "add":
        total = entries(expr.args[0])
        for term in expr.args[1:]:
            rows = entries(term)
            if len(rows) != len(total) or len(rows[0]) != len(total[0]):
                raise Undefined("a sum of matrices of different shapes")
            total = [[Expr("add", x, y) for x, y in zip(r, s, strict=True)] for r, s in zip(total, rows, strict=True)]
        return total
    if expr.head == "mul":
        result: Rows | None = None
        scalars: list[Expr] = []
        for factor in expr.args:
            if is_matrix(factor):
                result = entries(factor) if result is None else product(result, entries(factor))
            else:
                scalars.append(factor)
        assert result is not None  # noqa: S101 - is_matrix saw one
        return [[Expr("mul", *scalars, x) for x in row] for row in result] if scalars else result
    if expr.head == "div":
        return [[Expr("div", x, expr.args[1]) for x in row] for row in entries(expr.args[0])]
    if expr.head == "pow" and expr.args[1].head == "num" and expr.args[1].args[0] in range(1, 7):
        base = entries(expr.args[0])
        result = base
        for _ in range(expr.args[1].args[0] - 1):
            result = product(result, base)
        return result
    if expr.head == "pow" and expr.args[1] == Expr("sym", "T"):
        return [list(column) for column in zip(*entries(expr.args[0]), strict=True)]
    raise Undecided("a matrix that is not computed out")


def product(left: Rows, right: Rows) -> Rows:
    """The product of two matrices, its entries as sums of products."""
    if len(left[0]) != len(right):
        raise Undefined("a product of matrices of different shapes")
    if len(left) * len(right) * len(right[0]) > 1000:
        raise TooLarge("a product of large matrices")
    columns = list(zip(*right, strict=True))
    return [[Expr("add", *(Expr("mul", x, y) for x, y in zip(row, column, strict=True))) for column in columns] for row in left]


def determinant(rows: Rows) -> Expr:
    """The determinant, written out along the first row."""
    if any(len(row) != len(rows) for row in rows):
        raise Undefined("the determinant of a matrix that is not square")
    if len(rows) == 1:
        return rows[0][0]
    if len(rows) > 5:
        raise TooLarge("a determinant of many rows")
    terms = []
    for index, entry in enumerate(rows[0]):
        minor = determinant([row[:index] + row[index + 1 :] for row in rows[1:]])
        terms.append(Expr("mul", MINUS_ONE, entry, minor) if index % 2 else Expr("mul", entry, minor))
    return Expr("add", *terms)


def vector(expr: Expr) -> list[Expr] | None:
    """The entries of a single row or column."""
    rows = entries(expr)
    if len(rows) == 1:
        return rows[0]
    return [row[0] for row in rows] if len(rows[0]) == 1 else None


def unwrapped(expr: Expr) -> Expr:
    """`expr` with determinants written out, and words in its midst read as names."""
    if expr.head == "text":
        content = expr.args[0].strip()
        return Expr("sym", content) if len(content) == 1 else Expr("word", "".join(c for c in content if c.isalpha()) or "?")
    if expr.head == "fn" and expr.args[0] == "det" and is_matrix(expr.args[1]):
        return determinant(entries(expr.args[1]))
    if not expr.features.isdisjoint(("text", "fn:det")):
        return Expr(expr.head, *(unwrapped(a) if isinstance(a, Expr) else a for a in expr.args))
    return expr


def outside_functions(expr: Expr) -> list[Expr]:
    """All nodes that are not inside the argument of a trigonometric function."""
    found = []
    stack = [expr]
    while stack:
        node = stack.pop()
        found.append(node)
        if not (node.head == "fn" and node.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc")):
            stack.extend(node.children())
    return found


def without_degrees(expr: Expr) -> Expr:
    """`expr` with 90° outside of functions read as 90."""
    return _map_degrees(expr, lambda inner: inner)


def in_radians(expr: Expr) -> Expr:
    """`expr` with 90° outside of functions read as π/2."""
    return _map_degrees(expr, lambda inner: Expr("div", Expr("mul", inner, _PI), Expr("num", 180, None)))


def _map_degrees(expr: Expr, change) -> Expr:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if expr.head == "deg":
        result: Expr = change(expr.args[0])
        return result
    if expr.head == "fn" and expr.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc"):
        return expr
    return Expr(expr.head, *(_map_degrees(a, change) if isinstance(a, Expr) else a for a in expr.args))


def unit_of(expr: Expr) -> str:
    """The symbol of a value's unit, or its own spelling for one outside the table; "" without one."""
    if expr.head != "unit":
        return ""
    spelling = expr.args[1].strip(" .,~").replace("\\", "")
    return words.UNITS.get(spelling) or words.UNITS.get(spelling.casefold()) or spelling


def bare(expr: Expr) -> Expr:
    """`expr` without its unit."""
    while expr.head == "unit":
        expr = expr.args[0]
    return expr


def literal(expr: Expr) -> tuple[int, int] | None:
    """The decimal places and significant digits of a decimal numeral, perhaps times a power of ten; None for anything else."""
    if expr.head == "num" and expr.args[1] is not None:
        places = expr.args[1]
        digits = abs(Fraction(expr.args[0]) * Fraction(10) ** places)
        return places, len(str(digits.numerator)) if digits.denominator == 1 else 0
    if expr.head == "mul" and len(expr.args) == 2:
        if expr.args[0] == MINUS_ONE:
            return literal(expr.args[1])
        first, second = expr.args
        if second.head == "pow" and second.args[0] == Expr("num", 10, None) and second.args[1].head == "num":
            inner = literal(first)
            if inner is not None and isinstance(second.args[1].args[0], int):
                return inner[0] - second.args[1].args[0], inner[1]
    return None


def terminates(poly: Poly) -> bool:
    """Whether a number has finitely many decimals."""
    rational = as_rational(poly)
    if rational is None:
        return False
    denominator = rational.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def cleared(poly: Poly) -> Poly:
    """`poly` times the powers of variables that clear its denominators."""
    lowest: dict[str, int | Fraction] = {}
    for mono in poly:
        for atom, exponent in mono:
            if exponent < 0:
                lowest[atom] = min(lowest.get(atom, 0), exponent)
    if not lowest:
        return poly
    result: Poly = {}
    for mono, c in poly.items():
        powers = dict(mono)
        for atom, exponent in lowest.items():
            powers[atom] = powers.get(atom, 0) - exponent
        result = add(result, scale({tuple(sorted((a, x) for a, x in powers.items() if x)): 1}, c))
    return result


def _ends(relation: Expr) -> Expr:
    return Expr("rel", ("=",), relation.args[1], relation.args[-1])


__all__ = ["Comparison", "ParseError"]
