"""Numbers with error bounds, against exact values and against the definitions."""

# ruff: noqa: E501 - tables of cases are read across

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_math import parse
from rewardkit_math.errors import Undecided
from rewardkit_math.expr import Expr
from rewardkit_math.numeric.evaluator import Evaluator
from rewardkit_math.numeric.identity import same_function, same_number, value

FUNCTIONS = ["sin", "cos", "arctan", "sinh", "cosh", "tanh", "arcsinh"]


@pytest.mark.parametrize("name", FUNCTIONS)
@given(x=st.fractions(-20, 20, max_denominator=10_000))
def test_functions_agree_with_the_standard_library(name, x):
    """The value is that of the math module, within its double precision."""
    python = {"arctan": "atan", "arcsinh": "asinh"}.get(name, name)
    ball = Evaluator(30, {})(Expr("fn", name, Expr("num", x, None)))
    assert float(ball[0]) == pytest.approx(getattr(math, python)(x), rel=1e-11, abs=1e-11)


@given(st.fractions(-50, 50, max_denominator=997), st.fractions(-50, 50, max_denominator=997))
def test_bounds_hold_the_truth(x, y):
    """The exact result of rational arithmetic lies within the bound."""
    a, b = Expr("num", x, None), Expr("num", y, None)
    expr = Expr("add", Expr("mul", a, b, a), Expr("div", a, Expr("add", Expr("num", 101, None), b)))
    exact = x * y * x + x / (101 + y)
    ball = Evaluator(30, {})(expr)
    assert abs(Fraction(ball[0]) - exact) <= Fraction(ball[2])


EQUAL = [
    (r"\cos\frac{\pi}{7}\cos\frac{2\pi}{7}\cos\frac{4\pi}{7}", r"-\frac18"), (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), (r"2e^{i\pi/3}", r"1+i\sqrt3"),
    (r"\arctan 1", r"\frac{\pi}{4}"), (r"\arcsin\frac12", r"\frac\pi6"), (r"e^{i\pi}", "-1"), (r"\ln 8", r"3\ln 2"), (r"\sqrt[3]{2+\sqrt5}+\sqrt[3]{2-\sqrt5}", "1"),
    (r"\tan 15^\circ", r"2-\sqrt3"), (r"i^i", r"e^{-\pi/2}"), (r"\sqrt{i}", r"\frac{1+i}{\sqrt2}"), (r"\log_3 7", r"\frac{\ln 7}{\ln 3}"),
]  # fmt: skip
DIFFERENT = [
    (r"e^{\pi\sqrt{163}}", "262537412640768744"), ("10^{10^{10}}", "10^{10^{11}}"), ("1", "(10^{10})!"), ("1", "9^{9^{9^{9}}}"), (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    ("10^{-7}", r"2\cdot 10^{-7}"), (r"\binom{1000000}{500000}", "1"), (r"\sqrt2+\sqrt3", r"\pi"), (r"\sin 10^{20}", r"\sin(10^{20}+1)"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_numbers(a, b):
    """Equal numbers of different forms are found equal."""
    assert same_number(parse(a), parse(b))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_numbers(a, b):
    """Different numbers are found different, however close, small or large."""
    assert not same_number(parse(a), parse(b))


def test_what_cannot_be_bounded_is_left_open():
    """The sine of 10^(10^10) radians is refused."""
    with pytest.raises(Undecided):
        same_number(parse(r"\sin(10^{10^{10}})"), parse("1"))


IDENTITIES = [
    (r"\sec^2 y", r"\tan^2 y + 1", True), ("|x|", r"\sqrt{x^2}", True), (r"\ln|x|", r"\ln x", False), ("n!", "n(n-1)!", True), (r"\cos(n\pi)", "(-1)^n", True),
    ("(x+1)^{2000}", "(x+1)^{1999}(x+1)", True), (r"\sin(90^\circ-x)", r"\cos x", True), (r"\sqrt{1/n}", r"\frac{1}{\sqrt n}", True), ("f(x+1)", "f(1+x)", True),
    ("f(x)", "f(2x)", False), ("x", "|x|", False), (r"\binom n2", r"\frac{n(n-1)}2", True), ("4^n", "2^{2n}", True), (r"\lfloor x \rfloor", "x", False),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "same"), IDENTITIES)
def test_identities(a, b, same):
    """Expressions in variables are compared over all real values at which they are defined."""
    assert same_function(parse(a), parse(b)) is same


def test_values_are_as_precise_as_asked_for():
    """π to 100 digits ends in …0679 8."""
    assert str(value(parse(r"\pi"), 100)[0]).startswith("3.14159265358979323846264338327950288419716939937510")
    assert value(parse(r"\pi"), 100)[2] < Decimal("1e-95")
