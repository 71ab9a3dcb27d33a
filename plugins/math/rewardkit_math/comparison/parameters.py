r"""Letters that stand for any number: constants of integration, and integers such as the k of `k\pi`. They may be renamed."""

# ruff: noqa: D102 - the methods are named after what they compare

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

from rewardkit_math.comparison.parts import Part
from rewardkit_math.errors import MathError
from rewardkit_math.expr import MINUS_ONE, ONE, Expr, neg, substitute, symbols
from rewardkit_math.normal import Poly, normal_form, proportion

_CONSTANT_NAMES = frozenset(
    [
        *"CcKABD",
        "C'",
        "C_0",
        "C_1",
        "C_2",
        "C_3",
        "c_0",
        "c_1",
        "c_2",
        "c_3",
        "K_1",
        "K_2",
        "k_1",
        "k_2",
        "A_1",
        "A_2",
        "const",
        "constant",
    ]
)
_TYPICAL = frozenset(["C", "C_1", "C_2", "c_1", "c_2", "C_0", "c_0", "C'", "K", "K_1", "K_2", "const", "constant"])
"""Names that in a reference certainly mean a constant of integration beside a variable."""

_VARIABLES = frozenset(["x", "t", "y", "u", "z", "θ", "theta", "s", "r"])
_INTEGERS = frozenset("knmljpq")


class Parameters(Part):
    """Answers that hold for any value of a letter."""

    def renamed(self, a: Expr, b: Expr) -> bool:
        """Return whether two answers are equal once the letters for any number are named alike."""
        if a.features.isdisjoint(("sym", "text", "word")) or b.features.isdisjoint(("sym", "text", "word")):
            return False
        return self.same_family(a, b) or self.same_period(a, b)

    # ---- constants of integration

    def same_family(self, a: Expr, b: Expr) -> bool:
        left, right = _with_names(_right_side(a)), _with_names(_right_side(b))
        if left.head in ("seq", "rel", "cond", "matrix") or right.head in ("seq", "rel", "cond", "matrix"):
            return False
        names = [symbols(e) for e in (left, right)]
        if not (names[1] & _VARIABLES and names[0] & _VARIABLES):
            return False
        theirs, ours = (sorted(n & _CONSTANT_NAMES - (n & _VARIABLES)) for n in names)
        if len(theirs) != len(ours) or len(ours) > 3:
            return False
        if not names[1] & _TYPICAL and not (len(ours) > 1 and set(theirs) <= _TYPICAL):  # A cos x + B sin x
            return False
        for order in permutations(theirs):
            candidate = left
            for old in order:
                candidate = substitute(candidate, old, Expr("sym", f"\0{old}"))
            for old, new in zip(order, ours, strict=True):
                candidate = substitute(candidate, f"\0{old}", Expr("sym", new))
            if self._same_up_to_constants(candidate, right, ours):
                return True
        return False

    def _same_up_to_constants(self, a: Expr, b: Expr, constants: list[str]) -> bool:
        try:
            polys = [normal_form(a), normal_form(b)]
            bare = _without_abs(a)
            if bare is not a and "fn:abs" not in b.features:  # ln|x| + C answers ln x + C
                polys[0] = normal_form(bare)
        except MathError:
            return self._quietly(a, b)
        if polys[0] == polys[1]:
            return True
        if len(constants) == 1:
            rests = [_without_term(poly, constants[0]) for poly in polys]
            if rests[0] is not None and rests[1] is not None:  # + C takes up any other constant
                difference = {m: rests[0].get(m, 0) - rests[1].get(m, 0) for m in rests[0].keys() | rests[1].keys()}
                return (
                    all(not _depends(mono) for mono, c in difference.items() if c)
                    or self._quietly(a, b)
                    or self._differ_by_a_constant(a, b, constants[0])
                )
            if (
                all(all((constants[0], 1) in mono for mono in poly) for poly in polys)
                and proportion(*polys) is not None
            ):
                return True  # C takes up any factor
        return self._quietly(a, b)

    def _differ_by_a_constant(self, a: Expr, b: Expr, constant: str) -> bool:
        """Return whether two antiderivatives differ by a number: sin² x + C and −cos² x + C."""
        difference = substitute(Expr("add", a, neg(b)), constant, Expr("num", 0, None))
        variables = symbols(difference)
        if len(variables) != 1 or not variables <= _VARIABLES:
            return False
        at_a_point = substitute(difference, variables.pop(), Expr("num", Fraction(1, 2), None))
        return self._quietly(difference, at_a_point)

    def _quietly(self, a: Expr, b: Expr) -> bool:
        try:
            return self.equal(a, b)
        except MathError:
            return False

    # ---- integers

    def same_period(self, a: Expr, b: Expr) -> bool:
        left, right = _ranged(a), _ranged(b)
        if left is None or right is None:
            return False
        (value, name), (other, wanted) = left, right
        if name is None or wanted is None or name not in symbols(value) or wanted not in symbols(other):
            return False
        letter = Expr("sym", wanted)
        shifts = [
            letter,
            Expr("add", letter, ONE),
            Expr("add", letter, MINUS_ONE),
            neg(letter),
            Expr("add", ONE, neg(letter)),
        ]
        if any(e.head == "seq" for e in (value, other)):
            shifts = shifts[:3]
        if name == wanted:
            shifts = shifts[1:]
        if value.head == other.head == "seq" and wanted == name:
            return self._quietly(value, other)
        marked = substitute(value, name, Expr("sym", "\0"))
        if wanted in symbols(marked):
            return False
        return any(self._quietly(substitute(marked, "\0", shift), other) for shift in shifts)


def _right_side(expr: Expr) -> Expr:
    if expr.head == "rel" and expr.args[0] == ("=",) and expr.args[1].head in ("sym", "call"):
        side: Expr = expr.args[2]
        return side
    return expr


def _with_names(expr: Expr) -> Expr:
    """Return `expr` with the words "const" and "constant" as the name C."""
    if expr.head in ("text", "word") and expr.args[0].strip(" .").casefold() in ("const", "constant"):
        return Expr("sym", "C")
    if expr.features.isdisjoint(("text", "word")):
        return expr
    return Expr(expr.head, *(_with_names(arg) if isinstance(arg, Expr) else arg for arg in expr.args))


def _without_abs(expr: Expr) -> Expr:
    """Return `expr` with ln|u| as ln u: beside a constant of integration it answers ln u."""
    if "fn:abs" not in expr.features:
        return expr
    if (
        expr.head == "fn"
        and expr.args[0] in ("ln", "log")
        and expr.args[1].head == "fn"
        and expr.args[1].args[0] == "abs"
    ):
        return Expr("fn", expr.args[0], _without_abs(expr.args[1].args[1]), *expr.args[2:])
    return Expr(expr.head, *(_without_abs(arg) if isinstance(arg, Expr) else arg for arg in expr.args))


def _without_term(poly: Poly, name: str) -> Poly | None:
    """Return `poly` without its term that is `name` alone, times a number; None if there is none or `name` occurs elsewhere."""
    alone = ((name, 1),)
    if alone not in poly:
        return None
    rest = {mono: c for mono, c in poly.items() if mono != alone}
    return None if any(atom == name or ("(" in atom and name in atom) for mono in rest for atom, _ in mono) else rest


def _depends(mono: tuple[tuple[str, object], ...]) -> bool:
    """Return whether a monomial depends on a variable, as far as is known."""
    return any(
        ("(" in atom and any(v in atom for v in _VARIABLES))
        or ("(" not in atom and atom not in ("π", "e", "i") and atom[0] != "#")
        for atom, _ in mono
    )


def _ranged(expr: Expr) -> tuple[Expr, str | None] | None:
    r"""Return an answer such as `k\pi, k \in \mathbb{Z}` without its condition, and the name of its integer; None if it has none."""
    name: str | None = None
    if expr.head == "cond":
        value, condition = expr.args
        if condition.head == "text" and "integer" in condition.args[0].casefold():  # kπ for integer k
            letters = symbols(value) & _INTEGERS
            condition = Expr("rel", ("in",), Expr("sym", min(letters, default="")), Expr("const", "Z"))
        if (
            condition.head != "rel"
            or condition.args[0] != ("in",)
            or condition.args[1].head != "sym"
            or not _is_integers(condition.args[2])
        ):
            return None
        name = condition.args[1].args[0]
    elif expr.head == "builder":
        condition = expr.args[1]
        if condition.head == "seq" and len(condition.args) == 3:
            condition = Expr("cond", *condition.args[1:])
        if condition.head == "rel" and condition.args[0] == ("in",):  # {kπ : k ∈ Z}
            condition = Expr("cond", expr.args[0], condition)
        elif condition.head != "cond" or condition.args[0].head != "rel":
            return None
        return _ranged(condition)
    elif expr.head == "seq" and len(expr.args) == 3 and (spoken := _called_integer(expr.args[2])) is not None:
        value, name = expr.args[1], spoken  # k\pi, k an integer
    else:
        value = expr
        letters = symbols(value) & _INTEGERS
        if len(letters) != 1 or value.features.isdisjoint(("const:pi", "deg")):
            return None
        (name,) = letters
    if value.head == "rel" and value.args[0] == ("=",) and value.args[1].head == "sym":
        value = value.args[2]
    return value, name


def _called_integer(expr: Expr) -> str | None:
    """Return the name of a letter that is said to be an integer: `k an integer`; None for anything else."""
    if expr.head != "unit" or expr.args[0].head != "sym":
        return None
    said = expr.args[1].casefold().replace("any", "").replace("is", "").replace("an", "").strip(" .")
    return str(expr.args[0].args[0]) if said == "integer" else None


def _is_integers(expr: Expr) -> bool:
    if expr.head == "const":
        return bool(expr.args[0] == "Z")
    return expr.head in ("sym", "text") and expr.args[0].strip().casefold() in ("z", "integers", "整数")
