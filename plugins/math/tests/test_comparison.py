"""Equality of answers by kind, in both directions if the direction must not matter."""

# ruff: noqa: E501 - tables of cases are read across

import pytest
from rewardkit_math import verify

SAME = {
    "numbers": [("1/2", "0.5"), ("1e-3", "0.001"), ("12 345", "12345"), (r"\frac{10!}{8!}", "90"), ("three", "3"), (r"10\sqrt6", r"\sqrt{600}"), ("-0", "0")],
    "decimals": [("3.14159265", r"\pi"), ("0.333333", "1/3"), ("0.30000000000000004", "0.3"), (r"2.314814814815\times10^{-3}", r"\frac1{432}")],
    "percent": [(r"50\%", "0.5"), (r"50\%", "50"), ("33.5 percent", "0.335"), (r"12.5\%", r"\frac18")],
    "units": [("10 cm", "10"), (r"5\text{ km}", r"5000\text{ m}"), ("500 cm", "5 m"), ("10 m/s", "10"), (r"\$1,000", "1000 dollars"), ("2 hours 30 minutes", "2.5 hours"),
              (r"90^\circ", "90"), (r"30^\circ", r"\frac\pi6"), (r"100\text{ square units}", "100"), ("4:30 PM", r"\text{4:30 p.m.}"), ("7 AM", "7:00 a.m.")],
    "expressions": [("(x+1)^2", "x^2+2x+1"), (r"\frac{x^2-1}{x-1}", "x+1"), (r"\sin^2 x+\cos^2 x", "1"), (r"\ln 4", r"2\ln 2"), (r"\log x", r"\ln x"), (r"\log 100", "2")],
    "complex": [("1+2i", "2i+1"), (r"\frac1i", "-i"), (r"\frac{1+i}{1-i}", "i"), (r"\sqrt{-4}", "2i")],
    "lists": [("1, 2, 3", "3, 1, 2"), ("1 or 2", "2, 1"), (r"1\pm\sqrt2", r"1+\sqrt2, 1-\sqrt2"), (r"\pm2", r"\{-2, 2\}"), ("x=1, y=2", "1, 2"), ("a=1, b=2", "b=2, a=1"),
              (r"x=\pm3", "3, -3"), ("x=2, -3", "-3, 2"), ("(1,2),(3,4)", "(3,4),(1,2)"), ("A, C", r"\text{C and A}")],
    "tuples": [("(1, 4.5)", r"(1,\frac92)"), ("(x,y)=(2,3)", "(2,3)"), ("x=2, y=3", "(2,3)"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)")],
    "sets": [(r"\{1,2\}", r"\{2,1\}"), (r"\emptyset", r"\{\}"), (r"\{5\}", "5"), (r"[0,1)\cup[1,2]", "[0,2]"), (r"(-\infty,1)\cup(1,\infty)", r"x\ne1"),
             (r"\mathbb{R}\setminus\{0\}", r"(-\infty,0)\cup(0,\infty)"), (r"\{x\mid x>2\}", r"(2,\infty)"), ("all real numbers", r"(-\infty,\infty)"), ("[1,2[", "[1,2)")],
    "relations": [("x=5", "5"), ("2=x", "x=2"), ("f(x)=2x+3", "2x+3"), ("f(x)=2x+3", "y=2x+3"), ("x+y=2", "x+y-2=0"), ("y=2x+1", "2x-y+1=0"), ("y=1/x", "xy=1"),
                  ("x<3", "3>x"), ("-x>=-1", "x<=1"), ("-2<=x<=7", r"x\in[-2,7]"), ("x<1 or x>2", r"(-\infty,1)\cup(2,\infty)"), ("|x|<3", "(-3,3)"),
                  ("x=5+6=11", "x=11"), (r"x\approx 11", "11"), ("|AB|=1", "1"), ("V_1:V_2=11:21", "11:21"), (r"|3-5|=2", "2")],
    "matrices": [(r"\begin{pmatrix}\frac12&0\\0&1\end{pmatrix}", r"\begin{bmatrix}0.5&0\\0&1\end{bmatrix}"),
                 (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}+\begin{pmatrix}5&6\\7&8\end{pmatrix}", r"\begin{pmatrix}6&8\\10&12\end{pmatrix}"),
                 (r"\begin{pmatrix}1&1\\0&1\end{pmatrix}^2", r"\begin{pmatrix}1&2\\0&1\end{pmatrix}")],
    "words": [(r"\text{Yes}", "yes"), ("(A)", "A"), (r"\text{(E)}", "E"), (r"\text{even}", "even"), (r"\text{No solution}", "no solution"), ("Even", r"\text{Even}")],
    "ratios": [("1:2", "2:4"), ("1:2:3", "2:4:6"), ("2:3", r"\frac23")],
    "bases": [("4210_{7}", "4210_7"), ("1012_3", "32")],
    "choices": [("(B) 12", "B"), ("(B) 12", "12"), (r"\textbf{(C)}\ 7", "C")],
    "sums": [(r"\sum_{k=1}^{1000} k", "500500"), (r"\sum_{k=0}^{100}\binom{100}{k}", "2^{100}"), (r"C_{10}^{3}", "120")],
    "conditions": [(r"k\pi+\frac\pi4, k\in\mathbb{Z}", r"\frac\pi4+k\pi (k\in\mathbf{Z})"), (r"\frac1x \text{ for } x\ne0", r"\frac1x")],
    "systems": [(r"\begin{cases}x=1\\y=2\end{cases}", "x=1, y=2"), (r"\left\{\begin{array}{l}x=1\\y=2\end{array}\right.", "x=1, y=2")],
    "approximations": [(r"\sqrt2\approx1.414", r"\sqrt2"), (r"\approx 3.14", "3.14"), ("1{,}5", "1.5")],
}  # fmt: skip

DIFFERENT = {
    "numbers": [("0.0000001", "0.0000002"), ("100000000000", "99999999999"), (r"\frac1{2^{99}}", r"\frac1{2^{98}}"), ("1234567.1", "1234567.2"), ("1/0", "5"), ("2", "AZYUK2A")],
    "decimals": [("3.14", r"\pi"), ("0.33", "1/3"), ("125.66", r"40\pi")],
    "percent": [("28", "0.28"), (r"5\%", "0.5")],
    "units": [("5 meters", "5 feet"), ("5 km", "5 m"), ("5x", "5"), ("10m", "10"), ("4:30 a.m.", "4:30 p.m."), (r"30^\circ", r"\frac\pi3")],
    "expressions": [("x+y", "x-y"), ("(a+5)(b+2)", "(+5)(b+2)"), ("E", r"\mathrm{E}*2"), ("x^2", "X^2"), (r"\pi r^2", r"\pi R^2")],
    "complex": [("1+2i", "1-2i")],
    "lists": [("1, 2", "1"), ("1 or 2", "2"), ("1,2,3,4,5", "2"), ("1,2", "1.2"), ("32, 349", "32349"), ("a=1, b=2", "a=2, b=1")],
    "tuples": [("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("(1,2]", "[1,2)"), ("(1,2)", "12"), (r"\{1,2\}", "(1,2)")],
    "sets": [(r"\{1,2\}", r"\{1,2,3\}"), (r"(1,2)\cup(2,3)", "(1,3)"), (r"[3,\infty)", r"(3,\infty)")],
    "relations": [("6+9c=15", "15"), ("10+5m=10+5h", "15"), ("7=11a+c", "11a+c"), ("2x+z=1", "1"), ("y=2x+1", "2x-y=1"), ("x=3", "y=3"), (r"x\ge5", r"x\le5"), ("x>3", r"x\ge3"),
                  ("f(x)=x^2", "g(x)=x^2"), ("x^2=4", "4")],
    "matrices": [(r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&3\end{pmatrix}"), (r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{100000000}", "1")],
    "words": [("A", "B"), (r"\text{odd}", r"\text{even}"), ("no", "on"), ("Dana", "Nada"), (r"\text{A,D}", r"\text{A,C}")],
    "ratios": [("1:2:3", "2:4:7")],
    "bases": [("1112112_3", "1112122_3")],
    "choices": [("(B) 12", "C"), ("(B) 12", "13")],
    "code": [("(lambda:5)()", "5"), (r"eval('5')", "5"), ("__import__(5)", "5")],
}  # fmt: skip


def _pairs(table):
    return [pytest.param(a, b, id=f"{kind}: {a} | {b}") for kind, pairs in table.items() for a, b in pairs]


@pytest.mark.parametrize(("a", "b"), _pairs(SAME))
def test_same(a, b):
    """These are the same answer, whichever of the two is the reference, and in a box as well as bare."""
    assert verify(a, b, symbolic=False).correct is True
    assert verify(b, a, symbolic=False).correct is True
    assert verify(f"Thus \\boxed{{{a}}}.", f"\\boxed{{{b}}}", symbolic=False).correct is True


@pytest.mark.parametrize(("a", "b"), _pairs(DIFFERENT))
def test_different(a, b):
    """These are different answers, whichever of the two is the reference."""
    assert verify(a, b, symbolic=False).correct is False
    assert verify(b, a, symbolic=False).correct is not True
