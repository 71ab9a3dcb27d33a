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
        """Compare functions by cases: rows with the same condition must have equal values."""
        self.at("structure")
        if a.head != b.head or len(a.args[0]) != len(b.args[0]):
            raise Undecided("functions by cases")
        pairs: list[tuple[Expr, Expr]] = []
        free = list(b.args[0])
        unmatched: list[tuple[Expr, ...]] = []
        for row in a.args[0]:
            match = next((r for r in free if self.same_conditions(row[1:], r[1:])), None)
            if match is None:
                unmatched.append(row)
                continue
            free.remove(match)
            pairs.append((row[0], match[0]))
        if unmatched:  # "otherwise" covers what the other rows leave
            if len(unmatched) > 1 or not (_otherwise(unmatched[0]) or _otherwise(free[0])):
                raise Undecided("functions by cases under different conditions")
            pairs.append((unmatched[0][0], free[0][0]))
        return self.all_equal(pairs)

    def same_conditions(self, a: tuple[Expr, ...], b: tuple[Expr, ...]) -> bool:
        """Return whether two rows hold under the same conditions, as far as is known."""
        spoken = [" ".join(_spoken(e) for e in row) for row in (a, b)]
        if spoken[0] == spoken[1] or sorted(spoken[0].split()) == sorted(spoken[1].split()):
            return True
        a, b = (tuple(condition for condition in row if not _is_domain(condition)) for row in (a, b))
        try:
            return len(a) == len(b) and self.all_equal(list(zip(a, b, strict=True)))
        except MathError:
            return False


_FILLERS = frozenset(("if", "is", "for", "when", "where", "all", "every", "an", "a"))


def _spoken(expr: Expr) -> str:
    r"""Return a condition as words and formulas in a row: `n \text{ even}` and `\text{if } n \text{ is even}` are the same."""
    if expr.head in ("text", "word"):
        return " ".join(
            word for word in expr.args[0].casefold().replace("$", " ").strip(" ,.").split() if word not in _FILLERS
        )
    if expr.head == "sym":
        return str(expr.args[0])
    if expr.head == "unit":
        return f"{_spoken(expr.args[0])} {_spoken(Expr('text', expr.args[1]))}"
    if expr.head == "mul":
        return " ".join(_spoken(part) for part in expr.args)
    return repr(expr)


def _is_domain(expr: Expr) -> bool:
    r"""Return whether a condition only says which kind of number a variable is: `n \in \mathbb{N}^*`."""
    return (
        expr.head == "rel"
        and expr.args[0] == ("in",)
        and expr.args[1].head == "sym"
        and expr.args[2].head in ("const", "sym")
    )


def _otherwise(row: tuple[Expr, ...]) -> bool:
    """Return whether a row holds wherever the others do not."""
    return len(row) == 1 or _spoken(row[1]) in ("otherwise", "else", "elsewhere", "other", "others", "")
