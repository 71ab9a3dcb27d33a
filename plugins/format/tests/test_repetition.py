"""``format.repetition``: a penalty for repeated text."""

# ruff: noqa: S311 - noise, not secrets

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_format import Repetition
from rewardkit_format.repetition import MAX_CHARS


def published(text, ngram):
    """Return the penalty of Yeo et al. 2025, appendix C.2, with a maximum of -1, written from its definition."""
    words = text.lower().split()
    grams = [tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)]
    return -(1 - len(set(grams)) / len(grams)) if grams else 0.0


@given(st.lists(st.sampled_from(["a", "b", "c", "A"])).map(" ".join), st.integers(1, 4))
def test_words_agree_with_the_paper(score, text, ngram):
    """With allowed at 0, the value is the published penalty."""
    assert score("format.repetition", text, ngram=ngram).value == pytest.approx(published(text, ngram))


@pytest.mark.parametrize(
    ("text", "params", "value"),
    [
        ("a b c d", {}, 0.0),
        ("", {}, 0.0),
        ("a b", {}, 0.0),
        ("a a a a a", {}, -2 / 3),
        ("a a a a a", {"allowed": 0.5}, -1 / 3),
        ("a a a a a", {"allowed": 0.7}, 0.0),
        ("abab", {"measure": "characters", "ngram": 2}, -1 / 3),
        ("我我我我", {"measure": "characters", "ngram": 1}, -3 / 4),
        ("a  A\n\na", {"measure": "characters", "ngram": 3}, -1 / 3),
    ],
)
def test_values_by_hand(score, text, params, value):
    """Small texts have the values that were counted by hand."""
    assert score("format.repetition", text, **params).value == pytest.approx(value)


def test_the_reason_tells_the_share(score):
    """The reason says how much is repeated."""
    assert score("format.repetition", "a a a a a").reason == "67% of 3-grams are repeated"


def test_compression_is_measured_in_bytes(score):
    """A text that zlib compresses by more than max_ratio gets max_ratio / ratio - 1."""
    text = "so the answer is 42. " * 100
    ratio = len(text) / len(zlib.compress(text.encode()))
    result = score("format.repetition", text, measure="compression", max_ratio=4.0)
    assert result.value == pytest.approx(-(1 - 4.0 / ratio))
    assert result.reason == f"compresses {ratio:.1f} times"
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=2000))
    assert score("format.repetition", noise, measure="compression").value == 0.0


@pytest.mark.parametrize("measure", ["words", "characters", "compression"])
def test_the_end_of_a_long_text_is_judged(score, measure):
    """Only the last characters of a text above the limit count, so that a loop at the end is not diluted."""
    noise = random.Random(2).choices("abcdefghijklmnopqrstuvwxyz ", k=MAX_CHARS)
    loop = "and so on " * (MAX_CHARS // 10)
    assert score("format.repetition", "".join(noise) + loop, measure=measure).value < -0.9


@given(st.text(st.characters()), st.sampled_from(["words", "characters", "compression"]), st.floats(0, 0.99))
def test_values_stay_between_minus_one_and_zero(score, text, measure, allowed):
    """Any text gets a value from -1 to 0, including surrogates and with any setting."""
    assert -1.0 <= score("format.repetition", text, measure=measure, allowed=allowed).value <= 0.0


@pytest.mark.parametrize(
    ("params", "says"), [({"ngram": 0}, "ngram"), ({"allowed": 1.0}, "allowed"), ({"max_ratio": 1.0}, "max_ratio")]
)
def test_wrong_parameters_are_refused(params, says):
    """Settings that would divide by zero raise ValueError."""
    with pytest.raises(ValueError, match=says):
        Repetition(**params)
