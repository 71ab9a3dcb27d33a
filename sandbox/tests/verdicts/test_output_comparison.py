"""Verdicts on plain values and bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit_sandbox import Opaque, same_output, same_value, show


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("3\n", "3\n", True),
        ("3", "3\n", True),
        ("a b  \nc \n\n", "a b\nc\n", True),
        ("a  b\n", "a b\n", True),
        ("3\r\n4\r\n", "3\n4\n", True),
        ("1\n", "1\n2\n", False),
        ("1\n2\n", "1\n", False),
        ("1\n\n2\n", "1\n2\n", False),
        ("", "", True),
        ("", "1\n", False),
        ("100000001\n", "100000000\n", False),
        ("1.0\n", "1\n", False),
        ("inf\n", "0.5\n", False),
        (b"3\0\n", "3\n", False),
        (b"\xff", "\xff", False),
        ("ab", "a b", False),
    ],
)
def test_exact_output(actual, expected, same):
    """Lines and words count, the space around them does not, and no number is nearly right."""
    assert same_output(actual, expected) is same


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("0.3333333", "0.3333333333", True),
        ("0.3334", "0.3333333333", False),
        ("1", "1.0", True),
        ("100000001", "100000000", False),
        ("100000001.0", "100000000", False),
        ("nan", "1.0", False),
        ("1e999", "1.0", False),
        ("inf", "inf", True),
        ("x 1.0", "x 1.0000001", True),
        ("1_0.0", "10.0", False),
        ("9" * 5000, "1", False),
    ],
)
def test_output_with_a_tolerance(actual, expected, same):
    """A tolerance is for numbers of which at least one is not an integer."""
    assert same_output(actual, expected, float_tolerance=1e-6) is same


@given(st.text(alphabet="ab 1\n\t."))
def test_output_equals_itself(text):
    """Any output is the same as itself."""
    assert same_output(text, text)


@pytest.mark.parametrize(
    ("actual", "expected", "python", "as_json", "strict"),
    [
        (1, 1, True, True, True),
        (True, 1, True, False, False),
        (1.0, 1, True, True, False),
        ((1, 2), [1, 2], False, True, False),
        ([(1,)], [[1]], False, True, False),
        ({"a": (1,)}, {"a": [1]}, False, True, False),
        ({1, 2}, {2, 1}, True, True, True),
        ("1", 1, False, False, False),
        (None, 0, False, False, False),
        ([], None, False, False, False),
        ({}, [], False, False, False),
        (Opaque("E"), 1, False, False, False),
        ([Opaque("E")], [1], False, False, False),
    ],
)
def test_values(actual, expected, python, as_json, strict):
    """The caller decides how strictly types are compared."""
    assert [same_value(actual, expected, types=types) for types in ("python", "json", "strict")] == [
        python,
        as_json,
        strict,
    ]


def test_value_tolerance():
    """Floats may be off, integers never."""
    assert same_value([1.0000001], [1.0], float_tolerance=1e-6)
    assert not same_value([100000001], [100000000], float_tolerance=1e-6)
    assert not same_value(float("inf"), 1.0, float_tolerance=1e-6)
    assert same_value(10**400, 1.5, float_tolerance=1e-6) is False


def test_show_is_bounded():
    """Even values that can't be printed are shown, briefly."""
    assert len(show(10**100_000)) < 100
    assert len(show("x" * 10**6)) <= 80


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [("1000000500.0", "1000000000", False), ("1000000000.0", "1000000000", True), ("1e9", "1000000000", True), ("2.9999999", "3", True),
     ("1000000000.5", "1000000000", False), ("3.5", "3", False), ("1000000500", "1e9", True), ("inf", "3", False), ("nan", "3", False), ("9007199254740993.0", "9007199254740993", False)],
)  # fmt: skip
def test_integers_have_no_tolerance(actual, expected, same):
    """If an integer is expected, a whole number must equal it; any other number may differ by the absolute tolerance."""
    assert same_output(actual, expected, float_tolerance=1e-6) is same
    if "." in actual:
        assert same_value(float(actual), int(expected), float_tolerance=1e-6) is same


@pytest.mark.parametrize(
    ("actual", "expected"), [({True: 1}, {1: 1}), ({1.0}, {1}), ({(True, 2)}, {(1, 2)}), (frozenset({1}), {1})]
)
def test_strict_keys(actual, expected):
    """`strict` also compares the types of keys and of members of sets."""
    assert same_value(expected, expected, types="strict")
    assert not same_value(actual, expected, types="strict")
    assert same_value(actual, expected, types="python")
