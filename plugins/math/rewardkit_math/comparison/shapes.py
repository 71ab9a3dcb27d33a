"""Predicates and small transformations of one parsed answer: is it a list, a word, a decimal; what is its unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from rewardkit_math.comparison import realset
from rewardkit_math.comparison.matrices import determinant, entries, is_matrix
from rewardkit_math.comparison.names import EQUALS, names_like, spread_name
from rewardkit_math.errors import MathError
from rewardkit_math.expr import MINUS_ONE, Expr, neg
from rewardkit_math.normal import Poly, add, as_rational, scale
from rewardkit_math.parsing import parse, text
from rewardkit_math.parsing import vocabulary as words

SETS = frozenset(("seq", "setop", "builder"))
NUMBER_SETS = frozenset(("R", "Q", "Z", "N", "C", "empty"))

PI = Expr("const", "pi")
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
_WORDLIKE = frozenset(("text", "word"))


def opened(expr: Expr) -> Expr:
    r"""Return `expr` without wrappers that carry no meaning: `\text{(E)}`, a set in `x ∈ S` stays; words become text."""
    if expr.head == "text":
        content = (
            expr.args[0].strip(" ,;:~").removesuffix(".")
            if expr.args[0].count(".") == 1
            else expr.args[0].strip(" ,;:~")
        )
        if " " in content and "," not in content and not any(c.isdigit() for c in content):
            return Expr("text", content)
        try:
            inside = parse(content)
        except MathError:
            return Expr("text", content)
        return Expr("text", content) if inside.head in ("word", "mul", "cond") else inside
    if expr.head == "word" and expr.args[0].casefold() in words.TEXT_ANSWERS | words.NUMBER_WORDS.keys():
        return Expr("text", expr.args[0])
    if (
        expr.head == "pow"
        and expr.args[0].head == "seq"
        and spelled(expr.args[1]) == "t"
        and expr.args[0].args[0] in ("()", "[]")
    ):
        return Expr("seq", "()", *expr.args[0].args[1:])  # a transposed row
    if expr.head == "unit" and expr.args[0].head in ("seq", "matrix", "rel"):
        return Expr(expr.args[0].head, *expr.args[0].args)
    return expr


def is_product(letters: str) -> bool:
    """Return whether letters in a row may be factors (`abcd`, `xyzw`) rather than a word: lower case, no vowel but a."""
    return letters.islower() and not set(letters) & set("eiou")


def is_name(expr: Expr) -> bool:
    """Return whether an expression is a word that can't be a product of variables, such as `Bob`."""
    return expr.head == "word" and not is_product(expr.args[0])


def spelled(expr: Expr) -> str | None:
    """Return the letters of an expression that consists of letters only; None for any other."""
    if expr.head in _WORDLIKE:
        return text.plain(expr.args[0])
    if expr.head == "sym":
        return text.plain(expr.args[0])
    if expr.head == "const":
        return str(expr.args[0]).casefold()
    if expr.head == "mul" and all(e.head in ("sym", "word", "text", "const") for e in expr.args):
        return "".join(spelled(e) or "" for e in expr.args)
    if expr.head == "seq" and expr.args[0] == "":
        return "".join((spelled(e) or "?") for e in expr.args[1:])
    return None


def items(expr: Expr) -> list[Expr] | None:
    """Return the items of a bare list, with ± written out; None if `expr` isn't a list."""
    if expr.head == "seq" and expr.args[0] == "":
        found = [e for item in expr.args[1:] for e in (items(item) or [item])]
        return spread_name(found)
    if expr.head in ("add", "mul", "div", "pm", "pow", "fn", "unit", "deg", "rel") and "pm" in expr.features:
        if expr.head == "rel" and (len(expr.args) != 3 or expr.args[0][0] not in EQUALS):
            return None
        return [with_sign(expr, 1), with_sign(expr, -1)]
    if expr.head == "rel" and len(expr.args) == 3 and expr.args[0][0] in EQUALS and names_like(expr.args[1]):
        inside = items(expr.args[2])
        if inside is not None:
            return [Expr("rel", ("=",), expr.args[1], e) for e in inside]
    return None


def with_sign(expr: Expr, sign: int) -> Expr:
    """Return `expr` with every ± read as + (sign 1) or − (sign −1), and every ∓ the other way."""
    if expr.head == "pm":
        mode, left, right = expr.args
        right = with_sign(right, sign)
        if (mode == "+-") != (sign > 0):
            right = neg(right)
        return right if left is None else Expr("add", with_sign(left, sign), right)
    return Expr(expr.head, *(with_sign(a, sign) if isinstance(a, Expr) else a for a in expr.args))


def distinct(found: Sequence[Expr]) -> list[Expr]:
    """Return `found` without repetitions."""
    return list(dict.fromkeys(found))


def is_region(expr: Expr) -> bool:
    """Return whether an expression is certainly a subset of the real line (a pair in parentheses may also be a point)."""
    if expr.head in ("setop", "builder"):
        return True
    if expr.head == "const":
        return expr.args[0] in ("R", "empty")
    if expr.head == "seq":
        if expr.args[0] in ("", "or"):
            return all(e.head == "rel" and not set(e.args[0]) <= EQUALS for e in expr.args[1:])
        return len(expr.args) == 3 and (
            expr.args[0] not in ("()", "{}", "[]") or any(infinity(e) for e in expr.args[1:])
        )
    return expr.head == "rel" and not set(expr.args[0]) <= EQUALS


def infinity(expr: Expr) -> int:
    """1 for ∞, −1 for −∞, else 0."""
    return realset.end(expr).sign if expr.head in ("const", "mul") else 0


def unwrapped(expr: Expr) -> Expr:
    """Return `expr` with determinants written out, and words in its midst read as names."""
    if expr.head == "text":
        content = expr.args[0].strip()
        return (
            Expr("sym", content)
            if len(content) == 1
            else Expr("word", "".join(c for c in content if c.isalpha()) or "?")
        )
    if expr.head == "fn" and expr.args[0] == "det" and is_matrix(expr.args[1]):
        return determinant(entries(expr.args[1]))
    if not expr.features.isdisjoint(("text", "fn:det")):
        return Expr(expr.head, *(unwrapped(a) if isinstance(a, Expr) else a for a in expr.args))
    return expr


def outside_functions(expr: Expr) -> list[Expr]:
    """Return all nodes that are not inside the argument of a trigonometric function."""
    found = []
    stack = [expr]
    while stack:
        node = stack.pop()
        found.append(node)
        if not (node.head == "fn" and node.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc")):
            stack.extend(node.children())
    return found


def is_angle(expr: Expr) -> bool:
    """Return whether a value looks like an angle in radians: it is π, or an inverse trigonometric function."""
    return expr == PI or (expr.head == "fn" and expr.args[0].startswith("arc"))


def without_degrees(expr: Expr) -> Expr:
    """Return `expr` with 90° outside of functions read as 90."""
    return _map_degrees(expr, lambda inner: inner)


def in_radians(expr: Expr) -> Expr:
    """Return `expr` with 90° outside of functions read as π/2."""
    return _map_degrees(expr, lambda inner: Expr("div", Expr("mul", inner, PI), Expr("num", 180, None)))


def _map_degrees(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    if expr.head == "deg":
        return change(expr.args[0])
    if expr.head == "fn" and expr.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc"):
        return expr
    return Expr(expr.head, *(_map_degrees(a, change) if isinstance(a, Expr) else a for a in expr.args))


def unit_of(expr: Expr) -> str:
    """Return the spelling of a value's unit; "" if it has none."""
    return expr.args[1].strip(" .,~").replace("\\", "") if expr.head == "unit" else ""


def bare(expr: Expr) -> Expr:
    """Return `expr` without its unit."""
    while expr.head == "unit":
        expr = expr.args[0]
    return expr


def literal(expr: Expr) -> tuple[int, int] | None:
    """Return the decimal places and significant digits of a decimal numeral, perhaps times a power of ten; None for anything else."""
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
    """Return whether a number has finitely many decimals."""
    rational = as_rational(poly)
    if rational is None:
        return False
    denominator = rational.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def cleared(poly: Poly) -> Poly:
    """Return `poly` times the powers of variables that clear its denominators."""
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


def ends(relation: Expr) -> Expr:
    """Return the first and the last side of a chain of equalities, as one equation."""
    return Expr("rel", ("=",), relation.args[1], relation.args[-1])
