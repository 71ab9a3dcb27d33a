"""Splits an assertion into calls of the program, which run in the sandbox, and a condition, which is evaluated outside.

`assert sorted(f([3, 1])) == [1, 3]` becomes the call `f([3, 1])` and a condition on the returned value. The condition is evaluated on
builtin types with the operations below. An assertion that needs other operations runs as test code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rewardkit_sandbox.box.codec import hashable
from rewardkit_sandbox.types import Call, Execution

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        abs,
        all,
        any,
        bool,
        float,
        len,
        list,
        max,
        min,
        sorted,
        str,
        tuple,
    )
}


def _whole(value: Any, *more: Any) -> Any:
    """Return `int(value)`; refuse numbers whose exponent would take minutes and gigabytes to expand."""
    _refuse_far(value)
    return int(value, *more)


def _rounded(value: Any, digits: Any = None) -> Any:
    _refuse_far(value)
    if isinstance(digits, int) and abs(digits) > 1000:
        raise ValueError("too many digits")
    return round(value, digits) if digits is not None else round(value)


def _refuse_far(value: Any) -> None:
    if isinstance(value, Decimal) and (not value.is_finite() or abs(value.adjusted()) > 10_000):
        raise ValueError("too large a number")


def _total(values: Any, start: Any = 0) -> Any:
    if not isinstance(start, (int, float, complex)) and len(values) > 1000:
        raise ValueError("joining so many takes quadratic time")
    return sum(values, start)


def _hashed(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes a set or dict, unless that would take quadratic time."""

    def make(*values: Any) -> Any:
        if values and not isinstance(values[0], (dict, set, frozenset, str)):
            items = list(values[0])
            hashable([item[0] for item in items] if kind is dict else items)
        return kind(*values)

    return make


_FUNCTIONS.update(
    int=_whole, round=_rounded, sum=_total, set=_hashed(set), frozenset=_hashed(frozenset), dict=_hashed(dict)
)
_MATH: Mapping[str, Callable[..., Any]] = {
    "isclose": math.isclose,
    "fabs": math.fabs,
    "isnan": math.isnan,
    "isinf": math.isinf,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_LARGEST = 10**12


class _Unsplittable(Exception):
    """The assertion needs more than plain operations."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion, split into calls of the program and a condition on the returned values."""

    source: str
    """The assertion."""
    calls: tuple[Call, ...]
    """The calls, in the order of their evaluation."""
    _condition: ast.expr

    def holds(self, runs: Sequence[Execution]) -> bool:
        """Return True if all calls returned a value and the condition holds for the values.

        Args:
            runs: The runs of the calls, in their order.
        """
        if not all(run.ok for run in runs):
            return False
        try:
            return bool(_evaluate(self._condition, [run.value for run in runs]))
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, RecursionError, _Unsplittable):
            return False


def split_assertion(source: str) -> Assertion | None:
    """Split an assertion into calls and a condition.

    Args:
        source: A statement `assert …`.

    Returns:
        The parts, or None if the assertion can only run as test code.

    Raises:
        SyntaxError: The source is not valid Python.
    """
    body = ast.parse(source.strip()).body
    if len(body) != 1 or not isinstance(body[0], ast.Assert):
        return None
    test = body[0].test
    for names_too in (False, True):
        finder = _Calls(names_too=names_too)
        try:
            condition = finder.visit(test if not names_too else ast.parse(source.strip()).body[0].test)  # type: ignore[attr-defined]
            if finder.calls and _supported(condition):
                return Assertion(source, tuple(finder.calls), condition)
        except _Unsplittable:
            return None
    return None


class _Calls(ast.NodeTransformer):
    """Replaces calls of the program's functions with literal arguments by their positions."""

    def __init__(self, *, names_too: bool) -> None:
        self.names_too = names_too
        """True if the program's function may have the name of a builtin; tried when there is no other call."""
        self.calls: list[Call] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        path = _path(node.func)
        if path is None or path.startswith("math.") or (path in _FUNCTIONS and not self.names_too):
            return self.generic_visit(node)
        try:
            args = tuple(ast.literal_eval(argument) for argument in node.args)
            kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise _Unsplittable from None
        if len(kwargs) != len(node.keywords):
            raise _Unsplittable
        self.calls.append(Call(path, args, kwargs))
        return ast.copy_location(ast.Name(f"#{len(self.calls) - 1}", ast.Load()), node)


def _path(node: ast.expr) -> str | None:
    """`f`, `Solution.f` or `Solution().f` as a dotted path."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = node.value
        if isinstance(inner, ast.Call) and not inner.args and not inner.keywords:
            inner = inner.func
        if isinstance(inner, ast.Name):
            return f"{inner.id}.{node.attr}"
    return None


def _supported(node: ast.expr) -> bool:
    """Return whether `_evaluate` knows every part of a condition."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            path = _path(part.func)
            known = path in _FUNCTIONS or (path or "").removeprefix("math.") in _MATH
            if not known or any(keyword.arg not in ("rel_tol", "abs_tol", "reverse") for keyword in part.keywords):
                return False
        elif isinstance(part, ast.Name):
            if not part.id.startswith("#") and part.id not in (*_FUNCTIONS, "math"):
                return False
        elif isinstance(part, ast.Attribute):
            if not (isinstance(part.value, ast.Name) and part.value.id == "math"):
                return False
        elif isinstance(part, ast.Compare):
            if any(
                isinstance(o, (ast.Is, ast.IsNot)) and not _is_singleton(right)
                for o, right in zip(part.ops, part.comparators, strict=True)
            ):
                return False
        elif not isinstance(part, _KNOWN):
            return False
    return True


_KNOWN = (
    ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Subscript, ast.Slice,
    ast.boolop, ast.unaryop, ast.operator, ast.cmpop, ast.expr_context, ast.keyword,
)  # fmt: skip


def _is_singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


def _evaluate(node: ast.expr | None, values: Sequence[Any]) -> Any:
    def go(inner: ast.expr | None) -> Any:
        return _evaluate(inner, values)

    match node:
        case None:
            return None
        case ast.Constant():
            return node.value
        case ast.Name():
            return values[int(node.id[1:])]
        case ast.List():
            return [go(item) for item in node.elts]
        case ast.Tuple():
            return tuple(go(item) for item in node.elts)
        case ast.Set():
            return {go(item) for item in node.elts}
        case ast.Dict():
            return {go(key): go(value) for key, value in zip(node.keys, node.values, strict=True)}
        case ast.BoolOp():
            result: Any = None
            for item in node.values:
                result = go(item)
                if bool(result) is isinstance(node.op, ast.Or):
                    break
            return result
        case ast.UnaryOp():
            operand = go(node.operand)
            if isinstance(node.op, ast.Not):
                return not operand
            return (
                -operand if isinstance(node.op, ast.USub) else +operand if isinstance(node.op, ast.UAdd) else ~operand
            )
        case ast.BinOp():
            return _arithmetic(node.op, go(node.left), go(node.right))
        case ast.Compare():
            return _compare(node, go)
        case ast.Subscript():
            container = go(node.value)
            if isinstance(node.slice, ast.Slice):
                return container[slice(go(node.slice.lower), go(node.slice.upper), go(node.slice.step))]
            return container[go(node.slice)]
        case ast.Call():
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id  # type: ignore[attr-defined]
            function = _MATH[name] if isinstance(node.func, ast.Attribute) else _FUNCTIONS[name]
            return function(*map(go, node.args), **{keyword.arg or "": go(keyword.value) for keyword in node.keywords})
    raise _Unsplittable


def _compare(node: ast.Compare, go: Callable[[ast.expr], Any]) -> bool:
    left = go(node.left)
    for operation, comparator in zip(node.ops, node.comparators, strict=True):
        right = go(comparator)
        if isinstance(operation, (ast.Is, ast.IsNot)):
            holds = (left is right) is isinstance(operation, ast.Is)
        else:
            holds = bool(_COMPARISONS[type(operation)](left, right))
        if not holds:
            return False
        left = right
    return True


def _arithmetic(operation: ast.operator, left: Any, right: Any) -> Any:
    """Compute with bounded work: no text formatting, no huge powers or repetitions."""
    if isinstance(operation, ast.Pow):
        if (
            not isinstance(right, (int, float))
            or abs(right) > 64
            or not isinstance(left, (int, float))
            or abs(left) > _LARGEST
        ):
            raise _Unsplittable
        return left**right
    if any(isinstance(value, int) and value.bit_length() > 100_000 for value in (left, right)):
        raise _Unsplittable
    numbers = (int, float, complex)
    plain = isinstance(left, numbers) and isinstance(right, numbers)
    joined = isinstance(operation, (ast.Add, ast.Sub))
    repeated = isinstance(operation, ast.Mult) and _size(left) * _size(right) < 1_000_000
    if not (plain or joined or repeated):
        raise _Unsplittable
    return _ARITHMETIC[type(operation)](left, right)


def _size(value: Any) -> float:
    return abs(value) if isinstance(value, int) else len(value) if hasattr(value, "__len__") else math.inf
