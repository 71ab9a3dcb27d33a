"""Answers with a name: `x = 5`, `f(x) = 2x`, `x_1 = 2, x_2 = 3`, `p = 5, q = 2; p = 7, q = 2`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewardkit_math.expr import Expr

EQUALS = frozenset(("=", "~", "=="))


def spread_name(found: list[Expr]) -> list[Expr]:
    """Return `x = 1, 2, 3` as `x = 1, x = 2, x = 3`."""
    first = assigned(found[0]) if found[0].head == "rel" else None
    if first is None or any(e.head == "rel" for e in found[1:]) or not found[1:]:
        return found
    return [found[0], *(Expr("rel", ("=",), first[0], e) for e in found[1:])]


def assigned(expr: Expr) -> tuple[Expr, Expr] | None:
    """Return the name and the value of `x = 5`, `5 = x`, `f(x) = … = 2x`, `|AB| = 1`, `(p, q) = (3, 2)`."""
    if expr.head != "rel" or any(op not in EQUALS for op in expr.args[0]):
        return None
    operators, operands = expr.args[0], expr.args[1:]
    if names_like(operands[0]):
        return operands[0], settled(operators, operands)
    if len(operands) == 2 and operands[1].head in ("sym", "call"):
        return operands[1], operands[0]
    return None


def settled(operators: tuple[str, ...], operands: Sequence[Expr]) -> Expr:
    """Return the last value of a chain of equalities before any approximation: 11 for `x = 5 + 6 = 11 ≈ 10`."""
    last = 0
    for index, operator in enumerate(operators, 1):
        if operator == "~" and last:
            break
        last = index
    return operands[last]


def names_like(expr: Expr) -> bool:
    """Return whether `expr` names a quantity: x, AB, f(x), |AB|, m∠A, V_1 : V_2, NO/BO, sin θ, (p, q); not 2x or x + y."""
    head = expr.head
    if head in ("sym", "word", "call", "text"):
        return True
    if head == "const":
        return expr.args[0] in ("i", "e")
    if head in ("mul", "div", "ratio"):
        return all(names_like(e) for e in expr.args)
    if head == "fn":
        return expr.args[0] in _NAMING and all(
            names_like(e) or (e.head == "num" and expr.args[0] != "abs") for e in expr.args[1:]
        )
    if head == "seq":
        return expr.args[0] in ("()", "") and len(expr.args) > 1 and all(names_like(e) for e in expr.args[1:])
    return False


_NAMING = frozenset(
    ["abs", "sin", "cos", "tan", "cot", "sec", "csc", "max", "min", "det", "dim", "gcd", "lcm", "arg", "Re", "Im"]
)


def names_of(found: Sequence[Expr]) -> list[Expr] | None:
    """Return the names in a list of assignments; None if not every item is one."""
    names = [assigned(e) for e in found]
    return [n[0] for n in names if n is not None] if names and all(n is not None for n in names) else None


_ROOT = re.compile(r"([xyztrkm]|lambda)_\d")


def as_roots(found: Sequence[Expr]) -> list[Expr]:
    """Return `x_1 = 2, x_2 = 3` as `x = 2, x = 3`: numbered unknowns are the solutions of one equation, in any order."""
    named = [assigned(e) for e in found]
    matches = [_ROOT.fullmatch(n[0].args[0]) if n is not None and n[0].head == "sym" else None for n in named]
    if len(found) < 2 or any(m is None for m in matches) or len({m[1] for m in matches if m is not None}) != 1:
        return list(found)
    return [
        Expr("rel", ("=",), Expr("sym", m[1]), n[1])
        for m, n in zip(matches, named, strict=True)
        if m is not None and n is not None
    ]


def grouped(left: Sequence[Expr], right: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
    """Return `p = 5, q = 2, p = 7, q = 2` as tuples if the other side is a list of tuples."""
    return _as_tuples(left, right), _as_tuples(right, left)


def _as_tuples(found: Sequence[Expr], other: Sequence[Expr]) -> list[Expr]:
    size = len(other[0].args) - 1 if other and other[0].head == "seq" and other[0].args[0] == "()" else 0
    if size < 2 or len(found) != size * len(other) or any(e.head != "seq" or len(e.args) != size + 1 for e in other):
        return list(found)
    named = [assigned(e) for e in found]
    names = [n[0] for n in named if n is not None]
    if len(names) != len(found) or any(name != names[index % size] for index, name in enumerate(names)):
        return list(found)
    values = [n[1] for n in named if n is not None]
    return [Expr("seq", "()", *values[start : start + size]) for start in range(0, len(values), size)]
