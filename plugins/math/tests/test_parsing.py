"""The meaning of notations, tested by their normal forms and shapes."""

# ruff: noqa: E501 - tables of cases are read across

from fractions import Fraction

import pytest
from rewardkit_math import ParseError, parse
from rewardkit_math.errors import TooLarge
from rewardkit_math.normal import Normalizer, as_rational

NUMBERS = {
    "1234": 1234, "1,234,567": 1234567, r"1\,234": 1234, r"10{,}000": 10000, r"11,\! 111,\! 111": 11111111, "1.234,5": Fraction(2469, 2),
    "-3": -3, "+7": 7, ".5": Fraction(1, 2), "6.02e23": 602 * 10**21, r"1.5 \times 10^3": 1500, r"\frac12": Fraction(1, 2),
    r"\frac 1 2": Fraction(1, 2), r"\frac1{72}": Fraction(1, 72), r"\frac{3}4": Fraction(3, 4), r"\dfrac{1}{3}": Fraction(1, 3), r"2\frac34": Fraction(11, 4),
    "1 1/2": Fraction(3, 2), r"-2\frac12": Fraction(-5, 2), r"0.\overline{3}": Fraction(1, 3), r"0.1\overline{6}": Fraction(1, 6),
    "0.333...": Fraction(1, 3), "0.1666 repeating": Fraction(1, 6), r"50\%": Fraction(1, 2), r"\frac{1}{2}\%": Fraction(1, 200), "2^10": 1024,
    "2^{3^2}": 512, "-2^2": -4, "5!": 120, "5!!": 15, r"\binom{5}{2}": 10, r"{5 \choose 2}": 10, r"\sqrt[3]{-8}": -2, r"\log_2 8": 3,
    r"17 \bmod 5": 2, r"\gcd(12, 18)": 6, r"\lfloor 3.7 \rfloor": 3, r"\lceil 3.2 \rceil": 4, r"|3-5|": 2, r"\sum_{k=1}^{10} k^2": 385,
    r"\prod_{k=1}^5 k": 120, "4210_7": 1477, "0.11_2": Fraction(3, 4), r"\sin 30^\circ": Fraction(1, 2), r"\cos\frac{\pi}{3}": Fraction(1, 2),
    r"\$10": 10, "12 weeks": 12, r"10\text{ cm}^2": 10, r"1/2 \cdot 3": Fraction(3, 2), r"3 \text{ million}": 3_000_000,
    r"\begin{vmatrix}2&1\\1&2\end{vmatrix}": 3, "²": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [(t, v) for t, v in NUMBERS.items() if v is not None])
def test_numbers_in_every_notation(text, expected):
    """Each notation of a number has its exact value."""
    from rewardkit_math.comparison.shapes import unwrapped

    assert as_rational(Normalizer()(unwrapped(parse(text)))) == expected


SAME = [
    ("x2", "2x"), ("xy", "yx"), (r"\sin 2x + 1", r"1 + \sin(2x)"), (r"\sin^2 x", r"(\sin x)^2"), (r"\tan^{-1} x", r"\arctan x"), ("1/2x", r"\frac{x}{2}"),
    (r"\ln|x|", r"\ln(|x|)"), (r"\sqrt3", "sqrt(3)"), (r"\frac94\pi", r"\frac{9\pi}{4}"), ("3xy^2", r"3 \cdot x \cdot y^{2}"), (r"x^{-1}", "1/x"),
    (r"\left(x+1\right)^2", "x^2+2x+1"), (r"a_{1}", "a_1"), (r"\mathrm{e}^{x}", "e^x"), ("2sqrt(3)", r"2\sqrt{3}"), (r"x\cdot\pi", r"\pi x"),
    (r"\log_{10} x", r"\lg x"), ("2i+1", "1+2i"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SAME)
def test_notations_of_the_same_expression(left, right):
    """Different spellings of one expression have one normal form."""
    normal = Normalizer()
    assert normal(parse(left)) == normal(parse(right))


SHAPES = {
    "(1, 2)": ("seq", "()"), "[1, 2)": ("seq", "[)"), "]1, 2[": ("seq", "]["), r"\{1, 2\}": ("seq", "{}"), "1, 2": ("seq", ""), "{1, 2}": ("seq", ""),
    "1 or 2": ("seq", ""), r"1 \text{ and } 2": ("seq", ""), "x = 1 = 2": ("rel", ("=", "=")), r"x \le 3": ("rel", ("<=",)), r"x \in [0, 1]": ("rel", ("in",)),
    r"1 \pm \sqrt2": ("pm", "+-"), "11:21": ("ratio", None), r"A \cup B": ("setop", "union"), r"\{x \mid x > 0\}": ("builder", None),
    r"\frac1x \text{ for } x \ne 0": ("cond", None), r"x \equiv 3 \pmod{7}": ("rel", ("==",)), "f(x)": ("call", "f"), "a(x)": ("mul", None),
    r"\int_0^1 x\,dx": ("big", "int"), r"\lim_{x \to 0} x": ("big", "lim"), r"\begin{cases} 1 & x > 0 \\ 2 & x < 0 \end{cases}": ("cases", None),
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}": ("matrix", None), r"\text{Evelyn}": ("text", "Evelyn"), r"\emptyset": ("const", "empty"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "shape"), SHAPES.items())
def test_shapes(text, shape):
    """Lists, tuples, intervals, sets, relations and other structures have different heads."""
    found = parse(text)
    assert found.head == shape[0]
    assert shape[1] is None or found.args[0] == shape[1]


def test_a_comma_in_brackets_separates():
    """`(1,234)` is a pair, `1,234` is a number."""
    assert parse("(1,234)").args[1:] == (parse("1"), parse("234"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}",
        "\\frac{1}{2",
        "1 +",
        "(1, 2",
        "\\unknowncommand",
        "2 3",
        "\\binom{1}",
        "_",
        "\\sqrt",
        "2_{x}",
        "9_3",
    ],
)
def test_what_is_no_expression_is_refused(text):
    """Broken input raises ParseError, and nothing else."""
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "\\sqrt{" * 500 + "2" + "}" * 500,
        "1+" * 9000 + "1",
        "9" * 50_000,
        "x" * 100_000,
        "-" * 5000 + "1",
        "\\frac1" * 3000,
    ],
)
def test_what_is_too_large_is_refused(text):
    """Size guards raise TooLarge rather than exhaust the stack or the clock."""
    with pytest.raises((TooLarge, ParseError)):
        parse(text)


def test_redundant_brackets_cost_nothing():
    """Thousands of brackets around a number are still that number."""
    assert parse("(" * 2000 + "5" + ")" * 2000) == parse("5")
    assert parse("{" * 3000 + "5" + "}" * 3000) == parse("5")
