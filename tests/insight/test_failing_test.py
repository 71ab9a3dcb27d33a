"""The failing test is found in the row."""

import pytest

from rewardkit.insight.failing_test import failing_test


@pytest.mark.parametrize(
    ("reason", "tests", "found"),
    [
        ("1 of 3 tests passed; test 2: expected '7'", ["a", "b", "c"], (2, "b")),
        ("1 of 2 tests passed; test 2: for x", '[{"stdin": "1"}, "b"]', (2, "b")),
        (
            "0 of 2 tests passed; test 1: x",
            {"inputs": ["1", "2"], "outputs": ["3", "4"]},
            (1, '{\n  "inputs": "1",\n  "outputs": "3"\n}'),
        ),
        (
            "the tests failed: line 3: AssertionError",
            "def check(f):\n    assert f(1)",
            (1, "def check(f):\n    assert f(1)"),
        ),
        ("the test failed: x", ["only"], (1, "only")),
        ("1 of 3 tests passed; test 9: x", ["a"], None),
        ("all 3 tests passed", ["a"], None),
        ("it says test 2: in passing", ["a", "b"], None),
        ("the test failed: x", None, None),
    ],
)
def test_the_failing_test_is_found_by_its_number(reason, tests, found):
    """Tests are a list, JSON of a list, an object of lists, or test code."""
    assert failing_test(reason, {"prompt": "p", "tests": tests}) == found
