"""Small questions about parsed answers: is it a list, an assignment, a matrix, a decimal; what is its unit. No comparison yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from rewardkit_math.comparison import realset
from rewardkit_math.errors import MathError, TooLarge, Undecided, Undefined
from rewardkit_math.expr import MINUS_ONE, Expr, neg
from rewardkit_math.normal import Poly, add, as_rational, scale
from rewardkit_math.parsing import parse, text
from rewardkit_math.parsing import vocabulary as words

SETS = frozenset(("seq", "setop", "builder"))
NUMBER_SETS = frozenset(("R", "Q", "Z", "N", "C", "empty"))
EQUALS = frozenset(("=", "~", "=="))

PI = Expr("const", "pi")
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
_WORDLIKE = frozenset(("text", "word"))


def opened(expr: Expr) -> Expr:
    r"""`expr` without wrappers that carry no meaning: `\text{(E)}`, a set in `x ∈ S` stays; words become text."""
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
    if expr.head == "unit" and expr.args[0].head in ("seq", "matrix", "rel"):
        return Expr(expr.args[0].head, *expr.args[0].args)
    return expr


def is_product(letters: str) -> bool:
    """Whether letters in a row may be factors (`abcd`, `xyzw`) rather than a word: lower case, no vowel but a."""
    return letters.islower() and not set(letters) & set("eiou")


def is_name(expr: Expr) -> bool:
    """Whether an expression is a word that can't be a product of variables, such as `Bob`."""
    return expr.head == "word" and not is_product(expr.args[0])


def spelled(expr: Expr) -> str | None:
    """The letters that an expression is written with, where it is nothing but letters."""
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
    """The items of a bare list, with ± written out; None where `expr` is no list."""
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
    if expr.head != "rel" or any(op not in EQUALS for op in expr.args[0]):
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
        if expr.args[0] in ("", "or"):
            return all(e.head == "rel" and not set(e.args[0]) <= EQUALS for e in expr.args[1:])
        return len(expr.args) == 3 and (
            expr.args[0] not in ("()", "{}", "[]") or any(infinity(e) for e in expr.args[1:])
        )
    return expr.head == "rel" and not set(expr.args[0]) <= EQUALS


def infinity(expr: Expr) -> int:
    """1 for ∞, −1 for −∞, else 0."""
    return realset.end(expr).sign if expr.head in ("const", "mul") else 0


def is_matrix(expr: Expr) -> bool:
    """Whether `expr` is a matrix, or computed from matrices."""
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
    """The product of two matrices, its entries as sums of products."""
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
    """All nodes that are not inside the argument of a trigonometric function."""
    found = []
    stack = [expr]
    while stack:
        node = stack.pop()
        found.append(node)
        if not (node.head == "fn" and node.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc")):
            stack.extend(node.children())
    return found


def is_angle(expr: Expr) -> bool:
    """Whether a value is an angle in radians by its looks: it is π, or an inverse trigonometric function."""
    return expr == PI or (expr.head == "fn" and expr.args[0].startswith("arc"))


def without_degrees(expr: Expr) -> Expr:
    """`expr` with 90° outside of functions read as 90."""
    return _map_degrees(expr, lambda inner: inner)


def in_radians(expr: Expr) -> Expr:
    """`expr` with 90° outside of functions read as π/2."""
    return _map_degrees(expr, lambda inner: Expr("div", Expr("mul", inner, PI), Expr("num", 180, None)))


def _map_degrees(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    if expr.head == "deg":
        return change(expr.args[0])
    if expr.head == "fn" and expr.args[0] in ("sin", "cos", "tan", "cot", "sec", "csc"):
        return expr
    return Expr(expr.head, *(_map_degrees(a, change) if isinstance(a, Expr) else a for a in expr.args))


def unit_of(expr: Expr) -> str:
    """How a value's unit is spelled; "" without one."""
    return expr.args[1].strip(" .,~").replace("\\", "") if expr.head == "unit" else ""


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


def ends(relation: Expr) -> Expr:
    """The first and the last side of a chain of equalities, as one equation."""
    return Expr("rel", ("=",), relation.args[1], relation.args[-1])
