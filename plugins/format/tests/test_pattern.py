"""``format.regex``: a pattern of the user."""

import pytest
from rewardkit_format import Regex

from rewardkit import Unscored


@pytest.mark.parametrize(
    ("text", "params", "value"),
    [
        ("x = 42.", {"pattern": r"\d+"}, 1.0),
        ("x = 42.", {"pattern": r"\d+", "match": "fullmatch"}, 0.0),
        ("42", {"pattern": r"\d+", "match": "fullmatch"}, 1.0),
        ("42\n", {"pattern": r"\d+", "match": "fullmatch"}, 0.0),
        ("As an AI", {"pattern": "(?i)as an ai", "forbid": True}, 0.0),
        ("Well", {"pattern": "(?i)as an ai", "forbid": True}, 1.0),
        ("Step 1: Step 2:", {"pattern": r"Step \d", "count": 4}, 0.5),
        ("Step 1: Step 2:", {"pattern": r"Step \d", "count": 2}, 1.0),
        ("Step 1: Step 2: Step 3:", {"pattern": r"Step \d", "count": 2}, 1.0),
        ("答案", {"pattern": r"\p{Han}+", "match": "fullmatch"}, 1.0),
        ("\0\ud800", {"pattern": "\0"}, 1.0),
    ],
)
def test_it_matches_as_asked(score, text, params, value):
    """Patterns can be searched, matched in full, forbidden and counted."""
    assert score("format.regex", text, **params).value == value


@pytest.mark.parametrize(
    ("text", "params", "reason"),
    [
        ("42", {}, "the pattern matches"),
        ("x", {}, "the pattern does not match"),
        ("42", {"forbid": True}, "the pattern matches"),
        ("4 2", {"count": 3}, "2 of 3 matches"),
    ],
)
def test_the_reason_tells_what_was_found(score, text, params, reason):
    """The reason says whether the pattern matched, or how often."""
    assert score("format.regex", text, pattern=r"\d+", **params).reason == reason


@pytest.mark.parametrize("params", [{}, {"count": 2}, {"match": "fullmatch"}])
def test_a_pattern_that_backtracks_for_ever_is_left_unscored(score, params):
    """No completion can hang the run; a timeout is unscored, not a mismatch."""
    result = score("format.regex", "a" * 60 + "!", pattern=r"(a|a)*?x|(a*)*\Z(?<!.)", timeout_s=0.05, **params)
    assert isinstance(result, Unscored)
    assert result.kind == "timeout"
    assert "raise timeout_s" in result.message


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"pattern": "("}, "not a regular expression: missing"),
        ({"pattern": "a", "count": 0}, "at least 1"),
        ({"pattern": "a", "count": 2, "forbid": True}, "count works only with"),
        ({"pattern": "a", "count": 2, "match": "fullmatch"}, "count works only with"),
    ],
)
def test_wrong_parameters_are_refused(params, says):
    """A pattern that does not compile and options that contradict each other are a ValueError."""
    with pytest.raises(ValueError, match=says):
        Regex(**params)
