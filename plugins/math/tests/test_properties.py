"""Properties of any text: symmetry, rewrites, no exception, no mention of time."""

# ruff: noqa: E501 - tables of cases are read across

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewardkit_math import verify

ATOMS = st.one_of(
    st.integers(-50, 50).map(str),
    st.sampled_from(
        ["x", "y", "n", r"\pi", "e", "i", r"\sqrt{2}", r"\frac{1}{3}", "0.5", r"\alpha", "x_1", "2^{10}", "3!"]
    ),
)


def _grow(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"({p[0]}+{p[1]})"),
        pair.map(lambda p: f"({p[0]}-{p[1]})"),
        pair.map(lambda p: f"{p[0]} \\cdot ({p[1]})"),
        pair.map(lambda p: f"\\frac{{{p[0]}}}{{{p[1]}}}"),
        st.tuples(inner, st.integers(0, 3)).map(lambda p: f"({p[0]})^{{{p[1]}}}"),
        inner.map(lambda x: f"\\sqrt{{{x}}}"),
        inner.map(lambda x: f"|{x}|"),
        inner.map(lambda x: f"\\sin({x})"),
    )


EXPRESSIONS = st.recursive(ATOMS, _grow, max_leaves=6)
ANSWERS = st.one_of(
    EXPRESSIONS,
    st.lists(EXPRESSIONS, min_size=2, max_size=3).map(", ".join),
    st.lists(EXPRESSIONS, min_size=2, max_size=3).map(lambda xs: "(" + ", ".join(xs) + ")"),
    st.lists(EXPRESSIONS, min_size=1, max_size=3).map(lambda xs: r"\{" + ", ".join(xs) + r"\}"),
    st.tuples(st.sampled_from("xyz"), EXPRESSIONS).map(" = ".join),
    st.tuples(st.sampled_from("xyz"), st.sampled_from([r"\le", "<", ">", r"\ge"]), st.integers(-9, 9).map(str)).map(
        " ".join
    ),
)
FRAGMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "\\frac",
                "{",
                "}",
                "(",
                ")",
                "[",
                "]",
                "|",
                "^",
                "_",
                "\\sqrt",
                "!",
                "\\%",
                "^\\circ",
                "\\pm",
                "=",
                "<",
                "\\in",
                "\\cup",
                ",",
                "\\text{",
                "&",
                "\\\\",
                "\\begin{pmatrix}",
                "\\end{pmatrix}",
                "\\sum_{k=1}^{n}",
                "\\int",
                "dx",
                "9",
                "10^",
                "-",
                "1/0",
                "\\infty",
                "\\left",
                "\\right",
                "$",
                "\\{",
                "\\}",
                "\\log",
                "\\boxed{",
                "\\binom",
                "e",
                "i",
                "x",
                "f(x)",
                "answer is ",
                "\u200b",
                "²",
                "½",
                "\\",
                " ",
                "\n",
                "9^{9^{9}}",
                "\x00",
                "\ud800",
                "#### ",
                "1{,}250",
                "1,234",
                ".75",
                "12",
                "{,}",
                "'",
                ":30",
                " p.m.",
                " to ",
                " and ",
                " or ",
                "\\text{ cm}",
                "\\mathrm{m}",
                " km/h",
                " per ",
                " square feet",
                "\\%",
                "\\overline{3}",
                "1.5 x 10^3",
                "_{\\text{two}}",
                "_8",
                "\\pmod{5}",
                "Option B",
                "(C) ",
                "twenty-one",
                "\\ge",
                "P(",
                "\\operatorname{cis}",
                "\\begin{cases}",
                "\\end{cases}",
                "if ",
                "|x|",
                "\\underline{",
                "``",
                "''",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


@settings(deadline=None)
@given(ANSWERS, ANSWERS)
def test_symmetry(a, b):
    """The verdict does not depend on which side is the reference, if both are understood."""
    assert verify(a, b, symbolic=False).correct == verify(b, a, symbolic=False).correct


@settings(deadline=None)
@given(ANSWERS)
def test_rewrites_keep_the_meaning(a):
    """An answer equals itself with other spacing, in dollar signs, in a box, in brackets of another size."""
    for rewritten in (
        a.replace(" ", "  "),
        f"${a}$",
        f"The answer is \\boxed{{{a}}}",
        a.replace("\\frac", "\\dfrac"),
        a.replace("(", "\\left(").replace(")", "\\right)"),
    ):
        assert verify(rewritten, a, symbolic=False).correct is True


@settings(deadline=None)
@given(EXPRESSIONS, st.integers(1, 9))
def test_algebra_keeps_the_meaning(a, k):
    """A + k − k, k·a/k and a + 0 are a; a + k is not."""
    same = [f"{a} + {k} - {k}", f"\\frac{{{k} \\cdot ({a})}}{{{k}}}", f"0 + ({a})"]
    verdicts = [verify(s, a, symbolic=False).correct for s in same]
    assert (
        False not in verdicts
        or "not shown" in verify(same[verdicts.index(False)], a, symbolic=False).reason
        or "no value" in verify(a, same[0], symbolic=False).reason
    )
    assert verify(f"({a}) + {k}", a, symbolic=False).correct is not True


@given(st.fractions(), st.fractions())
def test_rational_numbers_are_exact(x: Fraction, y: Fraction):
    """Two fractions are called equal exactly if they are equal."""
    a, b = f"\\frac{{{x.numerator}}}{{{x.denominator}}}", f"\\frac{{{y.numerator}}}{{{y.denominator}}}"
    assert verify(a, b).correct is (x == y)
    assert verify(f"{x.numerator}/{x.denominator}", a).correct is True


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000), st.integers(0, 3))
def test_trailing_zeros_do_not_matter(x, zeros):
    """Zeros at the end of a decimal don't matter."""
    assert verify(f"{x}" + "0" * zeros, f"{x}").correct is True


@settings(deadline=None)
@given(FRAGMENTS, FRAGMENTS)
def test_no_text_raises(a, b):
    """Any two texts give a verdict of the documented kind, and no answer differs from itself."""
    verdict = verify(a, b, symbolic=False)
    assert verdict.correct in (True, False, None)
    assert (verdict.failure != "") == (verdict.correct is None)
    assert verdict.reason
    assert verify(a, a, symbolic=False).correct is not False or not verify(a, a, symbolic=False).prediction


@pytest.mark.parametrize("size", [1_000, 1_000_000])
@pytest.mark.parametrize(
    "unit",
    ["$", "\\boxed{", "answer is $", "1+", "(", "{", "\\frac{", "1 ", "\\text{a}", "\\[", "\\(", "x^", "9", "word ", "<answer>", "#### ", "A:\n", "\\boxed{1} ", "=", "|", "$1$, ",
     "\\sqrt", "-", "1,", "\\begin{matrix}", "</think>", "final answer is ", "\n", "é", "\\", "\\\\", "\\{", "4 cm ", "!"],
)  # fmt: skip
def test_a_megabyte_of_anything_is_answered(unit, size):
    """No text, repeated up to a megabyte on either side, raises an error or takes as long as the deadline."""
    text = unit * (size // len(unit))
    assert verify(text, "5", deadline_s=0.5).failure != "timeout"
    assert verify("5", text, deadline_s=0.5).failure != "timeout"
