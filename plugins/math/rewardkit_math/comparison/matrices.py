r"""Matrices, and vectors in other notations: `2\hat{i} + 3\hat{j}`, `(2, 3)^T`, `\binom{2}{3}`, `[[1, 2], [3, 4]]`."""

from __future__ import annotations

from rewardkit_math.errors import TooLarge, Undecided, Undefined
from rewardkit_math.expr import MINUS_ONE, ONE, ZERO, Expr, substitute, symbols
from rewardkit_math.normal import as_rational, normal_form


def is_matrix(expr: Expr) -> bool:
    """Return whether `expr` is a matrix, or computed from matrices."""
    if "matrix" not in expr.features:
        return False
    if expr.head == "matrix":
        return True
    if expr.head in ("add", "mul"):
        return any(is_matrix(e) for e in expr.args)
    if expr.head in ("pow", "div"):
        return is_matrix(expr.args[0])
    return expr.head == "fn" and expr.args[0] == "transpose"


Rows = list[list[Expr]]


def entries(expr: Expr) -> Rows:
    """Return the entries of a matrix, computed if it is a sum, a product or a small power of matrices."""
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
        if result is None:
            raise Undecided("a number among matrices")
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
    """Return the product of two matrices, its entries as sums of products."""
    if len(left[0]) != len(right):
        raise Undefined("a product of matrices of different shapes")
    if len(left) * len(right) * len(right[0]) > 1000:
        raise TooLarge("a product of large matrices")
    columns = list(zip(*right, strict=True))
    return [
        [Expr("add", *(Expr("mul", x, y) for x, y in zip(row, column, strict=True))) for column in columns]
        for row in left
    ]


def determinant(rows: Rows) -> Expr:
    """Return the determinant, written out along the first row."""
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
    """Return the entries of a single row or column."""
    rows = entries(expr)
    if len(rows) == 1:
        return rows[0]
    return [row[0] for row in rows] if len(rows[0]) == 1 else None


_AXES = (("\\hat{i}", "\\hat{j}", "\\hat{k}"), ("\\hat{x}", "\\hat{y}", "\\hat{z}"))
AXES = frozenset(name for axes in _AXES for name in axes)
"""Names of unit vectors."""


_PLAIN = {"i": "\\hat{i}", "j": "\\hat{j}", "k": "\\hat{k}", "e_1": "\\hat{i}", "e_2": "\\hat{j}", "e_3": "\\hat{k}"}
"""Names of unit vectors without an accent."""


def as_vector(expr: Expr, size: int) -> Expr | None:
    """Return a sum of multiples of unit vectors as a tuple of `size` components; None if it isn't such a sum."""
    names = symbols(expr) & AXES
    if not names and symbols(expr) and symbols(expr) <= _PLAIN.keys() and ({"j", "e_1", "e_2", "e_3"} & symbols(expr)):
        for plain, name in _PLAIN.items():  # 2i + 3j
            expr = substitute(expr, plain, Expr("sym", name))
        names = symbols(expr) & AXES
    if not names:
        return None
    axes = next((axes for axes in _AXES if names <= set(axes)), None)
    if axes is None or size not in (2, 3) or (size == 2 and axes[2] in names):
        return None
    components = []
    for axis in axes[:size]:
        component = expr
        for name in names:
            component = substitute(component, name, ONE if name == axis else ZERO)
        components.append(component if axis in names else ZERO)
    return Expr("seq", "()", *components)


def matched(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Return two answers of which one is a vector, a matrix or a tuple, with the other in the same form if possible."""
    return _like(a, b), _like(b, a)


def _like(expr: Expr, other: Expr) -> Expr:
    is_pair = other.head == "seq" and other.args[0] == "()" and len(other.args) == 3
    if expr.head == "fn" and expr.args[0] == "binom" and (other.head == "matrix" or is_pair):
        return Expr("seq", "()", *expr.args[1:])
    if (
        is_pair
        and expr.head == "seq"
        and expr.args[0] == "[]"
        and len(expr.args) == 3
        and _decrease(expr.args[1], expr.args[2])
    ):
        return Expr("seq", "()", *expr.args[1:])  # [3, 2] is no interval
    if other.head == "matrix":
        rows = other.args[0]
        if expr.head == "matrix" and "⟨⟩" in expr.args and len(rows[0]) == 1:
            return Expr("matrix", tuple((entry,) for entry in expr.args[0][0]))  # a vector in angles may be a column
        if (
            expr.head == "seq"
            and expr.args[0] in ("[]", "()")
            and len(expr.args) > 1
            and all(_is_row(row) for row in expr.args[1:])
        ):
            return Expr("matrix", tuple(tuple(row.args[1:]) for row in expr.args[1:]))
        size = len(rows) if len(rows[0]) == 1 else len(rows[0])
        return as_vector(expr, size) or _computed(expr) or expr
    if other.head == "seq" and other.args[0] in ("()", "[]", ""):
        return as_vector(expr, len(other.args) - 1) or _computed(expr) or expr
    return expr


def _decrease(low: Expr, high: Expr) -> bool:
    """Return whether two rational numbers are in the order in which no interval has its ends."""
    if symbols(low) or symbols(high):
        return False
    first, second = as_rational(normal_form(low)), as_rational(normal_form(high))
    return first is not None and second is not None and first > second


def _computed(expr: Expr) -> Expr | None:
    """Return a sum of tuples and of their multiples, such as `(1,2) + t(3,4)`, as a tuple; None for anything else."""
    if expr.head != "add":
        return _scaled(expr)
    terms = [e if e.head == "seq" and e.args[0] == "()" else _scaled(e) for e in expr.args]
    tuples = [e.args[1:] for e in terms if e is not None]
    if len(tuples) != len(terms) or len({len(e) for e in tuples}) != 1 or len(tuples[0]) < 2:
        return None
    return Expr("seq", "()", *(Expr("add", *parts) for parts in zip(*tuples, strict=True)))


def _scaled(expr: Expr) -> Expr | None:
    """Return a number times a tuple, such as `2(1,2)`, as a tuple; None for anything else."""
    if expr.head != "mul":
        return None
    tuples = [e for e in expr.args if e.head == "seq" and e.args[0] == "()" and len(e.args) > 2]
    factors = [e for e in expr.args if e.head != "seq"]
    if len(tuples) != 1 or len(factors) + 1 != len(expr.args):
        return None
    return Expr("seq", "()", *(Expr("mul", *factors, item) for item in tuples[0].args[1:]))


def _is_row(expr: Expr) -> bool:
    return expr.head == "seq" and expr.args[0] in ("[]", "()")
