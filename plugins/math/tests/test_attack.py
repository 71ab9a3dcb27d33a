"""Wrong answers that look right: a slightly changed answer is called equal only if its value is equal.

The oracle is independent of the verifier: fractions, polynomials as dictionaries, a + b√n as pairs, sets of numbers, written out here.
"""

from fractions import Fraction
from math import isqrt

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rewardkit_math import verify

QUICK = settings(deadline=None)


def judged(a, b, same):
    """Assert that the verdict is `same` in both directions, bare and in a box."""
    for prediction, reference in ((a, b), (b, a), (f"So it is \\boxed{{{a}}}.", b), (f"The answer is ${a}$.", b)):
        verdict = verify(prediction, reference, symbolic=False)
        assert verdict.correct is same, verdict.reason


def rational(value):
    r"""Return `\frac{a}{b}`, or an integer."""
    sign = "-" if value < 0 else ""
    value = abs(value)
    return sign + (
        str(value.numerator) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    )


numbers = st.fractions(-60, 60, max_denominator=24)


# ---- a digit, a sign


@QUICK
@given(st.integers(-(10**12), 10**12), st.data())
def test_another_digit(value, data):
    """A digit that is changed, dropped, doubled or moved makes another number."""
    text = str(value)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.sampled_from(
            [
                text[:at] + data.draw(st.sampled_from("0123456789")) + text[at + 1 :],
                text[:at] + text[at + 1 :],
                text[: at + 1] + text[at] + text[at + 1 :],
                text[:at] + text[at + 1 :] + text[at],
                "-" + text,
            ]
        )
    )
    try:
        changed = int(other)
    except ValueError:
        assume(False)
    assume("--" not in other)
    judged(other, text, changed == value)


@QUICK
@given(st.integers(1, 10**9), st.integers(1, 12), st.integers(0, 12))
def test_a_moved_decimal_point(digits, places, others):
    """The decimal point counts, however small or large the number."""
    first = f"{digits} \\times 10^{{-{places}}}"
    second = _decimal(digits, others)
    same = Fraction(digits, 10**places) == Fraction(digits, 10**others)
    judged(first, second, same)


def _decimal(digits, places):
    text = str(digits).rjust(places + 1, "0")
    return text if not places else f"{text[:-places]}.{text[-places:]}"


# ---- arithmetic


def _terms(children):
    pair = st.tuples(children, children)
    return st.one_of(
        pair.map(lambda p: (f"({p[0][0]} + {p[1][0]})", p[0][1] + p[1][1])),
        pair.map(lambda p: (f"({p[0][0]} - {p[1][0]})", p[0][1] - p[1][1])),
        pair.map(lambda p: (f"{p[0][0]} \\cdot {p[1][0]}", p[0][1] * p[1][1])),
        pair.filter(lambda p: p[1][1]).map(lambda p: (f"\\frac{{{p[0][0]}}}{{{p[1][0]}}}", p[0][1] / p[1][1])),
        st.tuples(children, st.integers(0, 3))
        .filter(lambda p: p[0][1] or p[1])
        .map(lambda p: (f"\\left({p[0][0]}\\right)^{{{p[1]}}}", p[0][1] ** p[1])),
    )


ARITHMETIC = st.recursive(
    st.integers(-9, 9).map(lambda n: (f"({n})" if n < 0 else str(n), Fraction(n))), _terms, max_leaves=7
)


@QUICK
@given(ARITHMETIC, ARITHMETIC, st.sampled_from([0, 1, -1, Fraction(1, 10**9), 10**6]))
def test_arithmetic(first, second, off):
    """Two computations are equal exactly if their values are, however small the difference."""
    judged(first[0], second[0], first[1] == second[1])
    judged(first[0], rational(first[1] + off), not off)


# ---- polynomials


def _product(p, q):
    result = {}
    for (i, j), a in p.items():
        for (k, m), b in q.items():
            result[i + k, j + m] = result.get((i + k, j + m), 0) + a * b
    return {e: c for e, c in result.items() if c}


def _sum(p, q, sign=1):
    result = dict(p)
    for e, c in q.items():
        result[e] = result.get(e, 0) + sign * c
    return {e: c for e, c in result.items() if c}


POLYNOMIALS = st.recursive(
    st.one_of(
        st.integers(1, 9).map(lambda n: (str(n), {(0, 0): n})),
        st.just(("x", {(1, 0): 1})),
        st.just(("y", {(0, 1): 1})),
        st.integers(2, 4).map(lambda n: (f"x^{n}", {(n, 0): 1})),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]}+{p[1][0]})", _sum(p[0][1], p[1][1]))),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]}-{p[1][0]})", _sum(p[0][1], p[1][1], -1))),
        st.tuples(inner, inner).map(lambda p: (f"{p[0][0]} \\cdot {p[1][0]}", _product(p[0][1], p[1][1]))),
        inner.map(lambda p: (f"({p[0]})^2", _product(p[1], p[1]))),
    ),
    max_leaves=5,
)


@QUICK
@given(POLYNOMIALS, POLYNOMIALS)
def test_polynomials(first, second):
    """Two expressions in x and y are equal exactly when all their coefficients are."""
    judged(first[0], second[0], first[1] == second[1])


@QUICK
@given(POLYNOMIALS)
def test_another_variable_or_sign(found):
    """A variable or a sign that is changed makes another expression, unless it doesn't occur in it."""
    text, poly = found
    swapped = {(j, i): c for (i, j), c in poly.items()}
    judged(text.translate(str.maketrans("xy", "yx")), text, swapped == poly)
    judged(f"-({text})", text, not poly)
    judged(f"({text})+x", text, same=False)


# ---- roots


def _root(a, b, n):
    """Return a + b√n without square factors under the root, as (a, b, n)."""
    for d in range(isqrt(n), 1, -1):
        if n % (d * d) == 0:
            b, n = b * d, n // (d * d)
    if n == 1:
        return a + b, Fraction(0), 0
    return (a, b, n) if b else (a, Fraction(0), 0)


@QUICK
@given(
    st.integers(-9, 9),
    st.integers(-6, 6),
    st.integers(2, 60),
    st.integers(-9, 9),
    st.integers(-6, 6),
    st.integers(2, 60),
)
@example(1, 2, 2, 1, 1, 8)
def test_roots(a, b, n, c, d, m):
    """Sums a + b√n are equal exactly if they are equal without square factors."""
    same = _root(Fraction(a), Fraction(b), n) == _root(Fraction(c), Fraction(d), m)
    judged(f"{a} + ({b})\\sqrt{{{n}}}", f"{c} + ({d})\\sqrt{{{m}}}", same)
    judged(f"{a} + ({b})\\sqrt{{{n}}}", f"{a} + ({b})\\sqrt{{{n + 1}}}", not b)


# ---- complex numbers


@QUICK
@given(st.tuples(*[st.integers(-9, 9)] * 4))
def test_complex_numbers(parts):
    """The real and the imaginary part must both be right, and so must the conjugate."""
    a, b, c, d = parts
    judged(f"{a} + ({b})i", f"({d})i + {c}", (a, b) == (c, d))
    judged(f"{a} - ({b})i", f"{a} + ({b})i", not b)
    judged(f"({a} + ({b})i)({c} + ({d})i)", f"{a * c - b * d} + ({a * d + b * c})i", same=True)


# ---- tuples, sets, intervals


@QUICK
@given(st.lists(numbers, min_size=2, max_size=4), st.data())
def test_tuples(values, data):
    """Order and number of entries count in a tuple, and each entry."""
    other = data.draw(
        st.one_of(
            st.permutations(values),
            st.just([*values[:-1], values[-1] + 1]),
            st.just([*values, values[0]]),
            st.just([-v for v in values]),
        )
    )
    same = list(other) == list(values)
    judged("(" + ", ".join(map(rational, other)) + ")", "(" + ", ".join(map(rational, values)) + ")", same)
    columns = ["\\begin{pmatrix} " + r" \\ ".join(map(rational, v)) + " \\end{pmatrix}" for v in (other, values)]
    judged(*columns, same)


@QUICK
@given(st.lists(numbers, min_size=1, max_size=4, unique=True), st.data())
def test_sets(values, data):
    """An element that is missing, added or changed makes another set; order does not."""
    other = data.draw(
        st.one_of(
            st.permutations(values),
            st.just([*values, values[0] + 1]),
            st.just([*values[:-1], values[-1] + 1]),
            st.lists(numbers, min_size=1, max_size=3),
        )
    )
    same = set(other) == set(values)
    judged("\\{" + ", ".join(map(rational, other)) + "\\}", "\\{" + ", ".join(map(rational, values)) + "\\}", same)


ENDS = st.tuples(numbers, numbers, st.sampled_from("(["), st.sampled_from(")]")).filter(lambda e: e[0] < e[1])


def _interval(ends):
    return f"{ends[2]}{rational(ends[0])}, {rational(ends[1])}{ends[3]}"


@QUICK
@given(ENDS, ENDS, st.data())
def test_intervals(first, second, data):
    """Both ends of an interval, and whether they belong to it, must be right; the same holds for chains of inequalities."""
    change = data.draw(st.integers(0, 4))
    low, high, left, right = first
    other = [
        second,
        (low, high, "[" if left == "(" else "(", right),
        (low, high, left, "]" if right == ")" else ")"),
        (low - 1, high, left, right),
        (low, high + Fraction(1, 7), left, right),
    ][change]
    judged(_interval(other), _interval(first), other == first)
    below, above = "<" if left == "(" else "\\le", "<" if right == ")" else "\\le"
    chain = f"{rational(low)} {below} x {above} {rational(high)}"
    judged(chain, _interval(other), other == first)


# ---- relations


@QUICK
@given(
    st.integers(1, 9),
    numbers,
    st.sampled_from(["<", ">", r"\le", r"\ge"]),
    st.sampled_from(["<", ">", r"\le", r"\ge", "="]),
)
def test_linear_inequalities(a, b, sign, other):
    """A·x + c ⋚ … equals its solution, with the sign reversed for a negative factor, and no other inequality."""
    turned = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "="}
    bound = rational(b)
    judged(f"{a}x {sign} {rational(a * b)}", f"x {other} {bound}", sign == other)
    judged(f"-{a}x {sign} {rational(-a * b)}", f"x {other} {bound}", turned[sign] == other)


@QUICK
@given(st.integers(1, 9), st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5))
def test_lines(a, b, c, k):
    """A line is the same after multiplication by a number, and another with another coefficient or sign."""
    line = f"{a}x + ({b})y = {c}"
    judged(f"{k * a}x + ({k * b})y - ({k * c}) = 0", line, same=True)
    judged(f"{a}x + ({b})y = {c + 1}", line, same=False)
    judged(f"{a + 1}x + ({b})y = {c}", line, same=not b and not c)
    judged(f"{a}x - ({b})y = {c}", line, not b)


# ---- quantities

SIZES = {"mm": ("m", 1, 1000), "cm": ("m", 1, 100), "m": ("m", 1, 1), "km": ("m", 1000, 1), "seconds": ("s", 1, 1),
         "minutes": ("s", 60, 1), "hours": ("s", 3600, 1), "g": ("g", 1, 1), "kg": ("g", 1000, 1)}  # fmt: skip


@QUICK
@given(
    numbers.filter(bool),
    numbers.filter(bool),
    st.sampled_from(sorted(SIZES)),
    st.sampled_from(sorted(SIZES)),
    st.integers(1, 3),
)
def test_quantities(first, second, one, two, power):
    """Values with units are equal exactly when they are after conversion, also where the units are squared or cubed."""
    (kind, top, bottom), (other, up, down) = SIZES[one], SIZES[two]
    size = [Fraction(top, bottom) ** power, Fraction(up, down) ** power]
    exponent = f"^{power}" if power > 1 else ""
    for a, b in ((first, second), (first * size[1], first * size[0])):
        same = kind == other and a * size[0] == b * size[1]
        judged(f"{rational(a)} \\text{{ {one}}}{exponent}", f"{rational(b)} \\text{{ {two}}}{exponent}", same)
    if power > 1:
        judged(f"{rational(first)} \\text{{ {one}}}{exponent}", f"{rational(first)} \\text{{ {one}}}", same=False)


@QUICK
@given(st.integers(1, 400), st.integers(1, 40_000))
def test_percent(share, number):
    """A percentage equals itself, its hundredth, and no other number."""
    judged(f"{share}\\%", rational(Fraction(number, 100)), number in (share, 100 * share))


@pytest.mark.parametrize("letter", "ABCDEFGHIJ")
def test_choices(letter):
    """One letter is never another."""
    for other in "ABCDEFGHIJ":
        for wrong in (other, f"({other})", f"\\text{{{other}}}", f"\\textbf{{({other})}} 12", f"Option {other}"):
            judged(wrong, f"({letter})", other == letter)
