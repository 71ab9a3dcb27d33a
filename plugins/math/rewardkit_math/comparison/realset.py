"""Subsets of the real line: unions of intervals and points, with exact end points.

An end is an `Expr` beside its numeric value, so that ends are ordered by value and reported as they were written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key

from rewardkit_math.errors import Undecided
from rewardkit_math.expr import MINUS_ONE, ZERO, Expr, neg, substitute
from rewardkit_math.normal import CONST, Number, as_rational, normal_form
from rewardkit_math.numeric.identity import same_number
from rewardkit_math.numeric.identity import value as value_of
from rewardkit_math.work import spend

MAX_PIECES = 60


@dataclass(frozen=True, slots=True)
class End:
    """An end of an interval: `sign` −1 for −∞, 1 for ∞, else 0."""

    expr: Expr
    sign: int = 0


LOW, HIGH = End(ZERO, -1), End(ZERO, 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval; a point is a closed interval from itself to itself."""

    low: End
    low_closed: bool
    high: End
    high_closed: bool


Pieces = tuple[Piece, ...]
REALS: Pieces = (Piece(LOW, False, HIGH, False),)


def end(expr: Expr) -> End:
    """Return the end that an expression stands for; it must be a real number or ±∞."""
    if expr.head in ("unit", "deg"):
        return end(expr.args[0])
    if expr.head == "const" and expr.args[0] == "inf":
        return HIGH
    if (
        expr.head == "mul"
        and len(expr.args) == 2
        and expr.args[0] == MINUS_ONE
        and expr.args[1] == Expr("const", "inf")
    ):
        return LOW
    return End(expr)


def order(a: End, b: End) -> int:
    """Return −1, 0 or 1 as a < b, a = b or a > b.

    Raises:
        Undecided: An end is no real number that can be bounded.
    """
    spend()
    if a.sign or b.sign:
        return (a.sign > b.sign) - (a.sign < b.sign)
    if a.expr == b.expr:
        return 0
    left, right = as_rational_expr(a.expr), as_rational_expr(b.expr)
    if left is not None and right is not None:
        return (left > right) - (left < right)
    if same_number(a.expr, b.expr):
        return 0
    x, y = value_of(a.expr), value_of(b.expr)
    if (x[1] is not None and x[1].copy_abs() > x[2]) or (y[1] is not None and y[1].copy_abs() > y[2]):
        raise Undecided("a complex end")
    return 1 if x[0] > y[0] else -1


def as_rational_expr(expr: Expr) -> Number | None:
    """Return the rational number that a numeral is."""
    value: Number | None = expr.args[0] if expr.head == "num" else None
    return value


def canonical(pieces: Pieces) -> Pieces:
    """Return the same set as disjoint pieces in ascending order, none of them empty."""
    if len(pieces) > MAX_PIECES:
        raise Undecided("a union of too many pieces")
    kept: list[Piece] = []
    for piece in pieces:
        compared = order(piece.low, piece.high)
        if compared < 0 or (compared == 0 and piece.low_closed and piece.high_closed):
            kept.append(piece)

    def by_low(a: Piece, b: Piece) -> int:
        return order(a.low, b.low) or (b.low_closed - a.low_closed)

    kept.sort(key=cmp_to_key(by_low))
    merged: list[Piece] = []
    for piece in kept:
        if merged:
            last = merged[-1]
            gap = order(piece.low, last.high)
            if gap < 0 or (gap == 0 and (piece.low_closed or last.high_closed) and not last.high.sign):
                further = order(piece.high, last.high)
                if further > 0:
                    merged[-1] = Piece(last.low, last.low_closed, piece.high, piece.high_closed)
                elif further == 0 and piece.high_closed and not last.high_closed:
                    merged[-1] = Piece(last.low, last.low_closed, last.high, high_closed=True)
                continue
        merged.append(piece)
    return tuple(merged)


def complement(pieces: Pieces) -> Pieces:
    """Return all real numbers that are not in the set."""
    result: list[Piece] = []
    low, closed = LOW, False
    for piece in canonical(pieces):
        result.append(Piece(low, closed, piece.low, not piece.low_closed))
        low, closed = piece.high, not piece.high_closed
        if low.sign:
            return canonical(tuple(result))
    result.append(Piece(low, closed, HIGH, high_closed=False))
    return canonical(tuple(p for p in result if not (p.low.sign == p.high.sign and p.low.sign)))


def intersection(a: Pieces, b: Pieces) -> Pieces:
    """Return the intersection of two sets."""
    return complement(complement(a) + complement(b))


def point(expr: Expr) -> Piece:
    """Return the set of one number."""
    return Piece(end(expr), True, end(expr), True)


def equal(a: Pieces, b: Pieces) -> bool:
    """Return whether two sets have the same elements."""
    left, right = canonical(a), canonical(b)
    return len(left) == len(right) and all(
        x.low_closed == y.low_closed
        and x.high_closed == y.high_closed
        and not order(x.low, y.low)
        and not order(x.high, y.high)
        for x, y in zip(left, right, strict=True)
    )


# ---- from expressions


def from_expr(expr: Expr) -> Pieces | None:
    """Return the set that an interval, a union, a set of numbers, ℝ, ∅ or a set builder denotes; None for anything else."""
    head = expr.head
    if head == "const":
        return REALS if expr.args[0] == "R" else () if expr.args[0] == "empty" else None
    if head == "sym" and expr.args[0] == "R":
        return REALS
    if head == "seq":
        return _from_seq(expr)
    if head == "setop":
        parts = [from_expr(part) for part in expr.args[1:]]
        if any(part is None for part in parts):
            return None
        result = parts[0] or ()
        for other in parts[1:]:
            part = other or ()
            if expr.args[0] == "union":
                result = canonical(result + part)
            else:
                result = intersection(result, part if expr.args[0] == "inter" else complement(part))
        return result
    if head == "builder":
        element, condition = expr.args
        if element.head == "rel" and element.args[0] == ("in",):
            element = element.args[1]
        if element.head != "sym":
            return None
        found = from_relation(condition)
        return found[1] if found and found[0] == element.args[0] else None
    return None


def _from_seq(expr: Expr) -> Pieces | None:
    brackets, items = expr.args[0], expr.args[1:]
    if brackets == "{}":
        if any(item.head not in _NUMERIC for item in items):
            return None
        return tuple(point(item) for item in items)
    if len(items) != 2 or len(brackets) != 2 or any(item.head not in _NUMERIC for item in items):
        return None
    low, high = end(items[0]), end(items[1])
    if order(low, high) >= 0 and brackets != "[]":
        return None  # a pair in odd brackets, which is no way to write the empty set
    return (Piece(low, brackets[0] == "[" and not low.sign, high, brackets[1] == "]" and not high.sign),)


_NUMERIC = frozenset(["num", "const", "add", "mul", "div", "pow", "fn", "unit", "deg", "pct", "base"])
_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def from_relation(expr: Expr) -> tuple[str, Pieces] | None:
    """Return the variable and the set of its values that a relation allows: `-1 ≤ x < 2`, `2x > 6`, `|x| ≤ 3`, `x ≠ 1`, `x ∈ [0, 1]`.

    Several relations in a list are taken together as in `x < 1 or x > 2` where they are disjoint, else as in `x > 1, x < 2`.
    """
    if expr.head == "cond":
        expr = expr.args[0]
    if expr.head == "seq" and expr.args[0] in ("", "or") and all(item.head == "rel" for item in expr.args[1:]):
        return _from_relations([from_relation(item) for item in expr.args[1:]], alternatives=expr.args[0] == "or")
    if expr.head != "rel":
        return None
    operators, operands = expr.args[0], expr.args[1:]
    if len(operators) == 1 and operators[0] in ("in", "notin"):
        inside = from_expr(operands[1])
        if inside is None or operands[0].head not in ("sym", "call"):
            return None
        return _name(operands[0]), inside if operators[0] == "in" else complement(inside)
    if any(op not in _FLIP for op in operators):
        return None
    name = ""
    result = REALS
    for operator, left, right in zip(operators, operands, operands[1:], strict=False):
        found = _simple(operator, left, right)
        if found is None or (name and found[0] != name):
            return None
        name = found[0]
        result = intersection(result, found[1])
    return name, result


def _from_relations(found: list[tuple[str, Pieces] | None], *, alternatives: bool) -> tuple[str, Pieces] | None:
    if any(f is None for f in found):
        return None
    known = [f for f in found if f is not None]
    if len({name for name, _ in known}) != 1:
        return None
    meet = known[0][1]
    join: Pieces = ()
    for _, pieces in known:
        meet = intersection(meet, pieces)
        join = canonical(join + pieces)
    # x > 1, x < 2 meet in an interval; x < 1, x > 2 do not meet; x ≠ 1, x ≠ 2 hold together
    return known[0][0], join if alternatives else meet or join


def _name(expr: Expr) -> str:
    return str(expr.args[0]) if expr.head == "sym" else repr(expr)


def _free(expr: Expr) -> str | None:
    """Return the one unknown in `expr`: a variable, or an unknown function of something."""
    names: set[str] = set()
    for node in expr.walk():
        if node.head == "sym":
            names.add(node.args[0])
        elif node.head in ("word", "call"):
            return None
    return names.pop() if len(names) == 1 else None


def _simple(operator: str, left: Expr, right: Expr) -> tuple[str, Pieces] | None:
    """Solve `left operator right`, linear in one unknown or in the absolute value of one."""
    if left.head == "call" and not any(n.head in ("sym", "call") for n in right.walk()):
        return repr(left), _half(operator, right)
    if right.head == "call" and not any(n.head in ("sym", "call") for n in left.walk()):
        return repr(right), _half(_FLIP[operator], left)
    for side, other, op in ((left, right, operator), (right, left, _FLIP[operator])):
        if side.head == "fn" and side.args[0] == "abs" and side.args[1].head == "sym":
            if any(n.head in ("sym", "word", "call") for n in other.walk()):
                return None
            positive = intersection(_half(op, other), (Piece(End(ZERO), True, HIGH, False),))
            mirrored = tuple(Piece(_minus(p.high), p.high_closed, _minus(p.low), p.low_closed) for p in positive)
            return side.args[1].args[0], canonical(positive + mirrored)
    difference = Expr("add", left, neg(right)) if right != ZERO else left
    name = _free(difference)
    if name is None:
        return None
    if (
        left.head == "sym"
        and right.head in ("num", "const", "mul", "fn", "div", "pow", "add")
        and not _mentions(right, name)
    ):
        return name, _half(operator, right)
    if right.head == "sym" and not _mentions(left, name):
        return name, _half(_FLIP[operator], left)
    poly = normal_form(difference, "e")
    slope = poly.get(((name, 1),))
    if slope is None or any(
        mono not in (CONST, ((name, 1),)) and any(atom == name or f"{name}" in atom for atom, _ in mono)
        for mono in poly
    ):
        return None
    bound = Expr("div", neg(substitute(difference, name, ZERO)), Expr("num", slope, None))
    exact = as_rational(normal_form(bound, "e"))
    if exact is not None:
        bound = Expr("num", exact, None)
    return name, _half(operator if slope > 0 else _FLIP[operator], bound)


def _mentions(expr: Expr, name: str) -> bool:
    return any(node.head == "sym" and node.args[0] == name for node in expr.walk())


def _minus(one: End) -> End:
    return End(one.expr if one.sign else neg(one.expr), -one.sign)


def _half(operator: str, bound: Expr) -> Pieces:
    at = end(bound)
    if operator == "=":
        return (point(bound),)
    if operator == "!=":
        return complement((point(bound),))
    closed = operator in ("<=", ">=") and not at.sign
    if operator in ("<", "<="):
        return (Piece(LOW, False, at, closed),)
    return (Piece(at, closed, HIGH, False),)
