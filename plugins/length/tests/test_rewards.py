"""The four rewards against their definitions and values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_length import Cosine, Overlong, Penalty, Target

from rewardkit import Registry, Rollout, Unscored
from rewardkit.config.params import make_params


def value(reward, length):
    """Return the value for a completion with this number of tokens."""
    (result,) = reward([Rollout("", "", num_tokens=length)])
    return result.value


# --- overlong ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0), (767, 0), (768, 0), (769, -1 / 256), (896, -0.5), (1023, -255 / 256), (1024, -1), (1025, -1), (10**9, -1)],
)
def test_overlong_is_dapo_s_punishment(length, expected):
    """The value is 0 up to max - buffer, falls linearly to -1 at max, and is -1 beyond."""
    assert value(Overlong(max_tokens=1024, buffer=256), length) == expected


@given(st.integers(1, 10_000), st.data())
def test_overlong_agrees_with_the_published_formula(maximum, data):
    """The value follows equation 13 of DAPO for any maximum, buffer and length."""
    buffer = data.draw(st.integers(0, maximum))
    length = data.draw(st.integers(0, 2 * maximum))
    if length <= maximum - buffer:
        expected = 0.0
    elif length <= maximum:
        expected = ((maximum - buffer) - length) / buffer
    else:
        expected = -1.0
    assert value(Overlong(max_tokens=maximum, buffer=buffer), length) == expected


def test_overlong_counts_characters_of_what_the_assistant_wrote():
    """In characters, prompt and tool turns do not count, and num_tokens is not needed."""
    chat = [{"role": "assistant", "content": "x" * 75}, {"role": "tool", "content": "y" * 1000}]
    (result,) = Overlong(max_chars=100, buffer=50)([Rollout("p" * 1000, chat)])
    assert result.value == -0.5
    assert result.reason == "75 characters, free up to 50, at most 100"


# --- cosine ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 1.0), (250, 0.5 + 0.25 * (1 + math.sqrt(0.5))), (500, 0.75), (1000, 0.5), (1001, 0.5), (2000, 0.5)],
)
def test_cosine_goes_from_shortest_to_longest(length, expected):
    """The value follows half a cosine and is constant beyond its end."""
    assert value(Cosine(max_tokens=1000, shortest=1.0, longest=0.5), length) == pytest.approx(expected)


@given(st.booleans(), st.integers(0, 1000))
def test_cosine_twice_is_the_published_reward(right, length):
    """Two components give the published values, one for correct and one for wrong answers."""
    low, high = (0.5, 1.0) if right else (-0.5, -1.0)  # for wrong answers minimum and maximum are swapped
    published = low + 0.5 * (high - low) * (1 + math.cos(length / 1000 * math.pi))
    mine = Cosine(max_tokens=1000, shortest=high, longest=low)
    assert value(mine, length) == pytest.approx(published)


def test_cosine_beyond_the_maximum_has_a_value_of_its_own():
    """With beyond, a completion above the maximum differs from one that just fits."""
    reward = Cosine(max_tokens=1000, shortest=1.0, longest=0.5, beyond=-10.0)
    assert [value(reward, length) for length in (1000, 1001)] == [0.5, -10.0]


# --- penalty -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "length", "expected"),
    [
        ({}, 0, 0.0),
        ({}, 300, -0.3),
        ({}, 1000, -1.0),
        ({}, 5000, -1.0),
        ({"free": 200}, 200, 0.0),
        ({"free": 200}, 300, -0.1),
        ({"floor": None}, 5000, -5.0),
        ({"floor": -0.25}, 5000, -0.25),
    ],
)
def test_penalty_is_a_price_on_length(params, length, expected):
    """The value is the rate times the length beyond free, down to the floor."""
    assert value(Penalty(per_token=0.001, **params), length) == pytest.approx(expected)


def test_penalty_tells_what_is_free():
    """The reason says how much is free, or how much is beyond."""
    reward = Penalty(per_token=0.001, free=200)
    reasons = [reward([Rollout("", "", num_tokens=length)])[0].reason for length in (200, 300)]
    assert reasons == ["200 tokens, 200 are free", "300 tokens, 100 beyond"]


# --- target ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0), (100, 0), (150, 0.5), (200, 1), (400, 1), (600, 1), (625, 0.75), (700, 0), (10**9, 0)],
)
def test_target_falls_on_both_sides(length, expected):
    """The value is 1 within the band and falls linearly to 0 over the margin."""
    assert value(Target(min_tokens=200, max_tokens=600, margin=100), length) == expected


@pytest.mark.parametrize(
    ("params", "inside", "outside"),
    [
        ({"min_tokens": 10}, [10, 10**9], [9]),
        ({"max_tokens": 10}, [0, 10], [11]),
        ({"min_tokens": 10, "max_tokens": 10}, [10], [9, 11]),
        ({"max_tokens": 0}, [0], [1]),
    ],
)
def test_target_may_be_open_or_one_length(params, inside, outside):
    """Without a margin the value is a step; a missing end leaves the band open."""
    assert [value(Target(**params), length) for length in inside] == [1.0] * len(inside)
    assert [value(Target(**params), length) for length in outside] == [0.0] * len(outside)


# --- all of them -------------------------------------------------------------------------------------------------------

IN_TOKENS = [
    Penalty(per_token=0.001),
    Overlong(max_tokens=100, buffer=10),
    Cosine(max_tokens=100),
    Target(max_tokens=100, margin=50),
]


@pytest.mark.parametrize("reward", IN_TOKENS, ids=lambda reward: type(reward).__name__)
def test_the_reason_tells_length_and_limits(reward):
    """The reason gives the length and what it is compared with."""
    (result,) = reward([Rollout("", "", num_tokens=95)])
    expected = {
        Penalty: "95 tokens, 95 beyond",
        Overlong: "95 tokens, free up to 90, at most 100",
        Cosine: "95 of 100 tokens",
        Target: "95 tokens, the band is 0 to 100",
    }
    assert result.reason == expected[type(reward)]


@pytest.mark.parametrize("reward", IN_TOKENS, ids=lambda reward: type(reward).__name__)
def test_without_a_count_of_tokens_a_row_is_unscored(reward):
    """A missing num_tokens is not a length of 0: the row is unscored and the message says how to fix it."""
    known, unknown = reward([Rollout("", "", num_tokens=0), Rollout("", "x" * 1000)])
    assert known.value in (0.0, 1.0)
    assert isinstance(unknown, Unscored)
    assert unknown.kind == "input"
    assert "column num_tokens" in unknown.message
    assert "_chars" in unknown.message


@pytest.mark.parametrize(
    ("name", "params", "complains"),
    [
        ("length.penalty", {"per_token": 0.1}, True),
        ("length.overlong", {"max_tokens": 10, "buffer": 1}, True),
        ("length.cosine", {"max_tokens": 10}, True),
        ("length.target", {"min_tokens": 10}, True),
        ("length.penalty", {"per_char": 0.1}, False),
        ("length.overlong", {"max_chars": 10, "buffer": 1}, False),
        ("length.cosine", {"max_chars": 10}, False),
        ("length.target", {"max_chars": 10}, False),
    ],
)
def test_a_missing_count_of_tokens_is_told_before_a_run(name, params, complains):
    """A reward declares that it reads num_tokens exactly if it counts tokens; `rewardkit check --data` then reports rows without."""
    reward_type = Registry.load().get(name).type
    needed = reward_type.needed_attributes(make_params(reward_type, params))
    assert ("num_tokens" in needed) == complains


@pytest.mark.parametrize("reward", IN_TOKENS, ids=lambda reward: type(reward).__name__)
@given(lengths=st.lists(st.integers(0, 300), min_size=2))
def test_longer_is_never_better(reward, lengths):
    """None of the four rises as completions get longer (without a lower end, and with cosine's defaults)."""
    values = [value(reward, length) for length in sorted(lengths)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("make", "params", "says"),
    [
        (Overlong, {"max_tokens": 100, "buffer": 101}, r"buffer \(101\) is longer than the maximum \(100 tokens\)"),
        (Overlong, {"max_chars": 100, "buffer": -1}, "buffer must be at least 0"),
        (Overlong, {"buffer": 1}, "max_tokens and max_chars are both missing"),
        (Overlong, {"max_tokens": 1, "max_chars": 1, "buffer": 1}, "max_tokens and max_chars are both set"),
        (Overlong, {"max_tokens": 0, "buffer": 0}, "the maximum must be at least 1"),
        (Cosine, {}, "both missing"),
        (Cosine, {"max_tokens": 1, "max_chars": 1}, "both set"),
        (Cosine, {"max_tokens": 1, "shortest": math.nan}, "shortest must be a finite number"),
        (Penalty, {}, "per_token and per_char are both missing"),
        (Penalty, {"per_token": 1, "per_char": 1}, "per_token and per_char are both set"),
        (Penalty, {"per_token": -1}, "above 0, not -1"),
        (Penalty, {"per_token": 0}, "above 0, not 0"),
        (Penalty, {"per_char": math.inf}, "above 0, not inf"),
        (Penalty, {"per_token": 1, "floor": 0.5}, "floor must be below 0"),
        (Penalty, {"per_token": 1, "free": -1}, "free must be at least 0"),
        (Target, {}, "neither tokens nor characters"),
        (Target, {"min_tokens": 1, "max_chars": 5}, "both tokens and characters"),
        (Target, {"min_tokens": 6, "max_tokens": 5}, r"the minimum \(6 tokens\) is above the maximum \(5 tokens\)"),
        (Target, {"min_chars": 1, "margin": -1}, "margin must be at least 0"),
    ],
)
def test_contradictory_parameters_are_refused(make, params, says):
    """Contradicting parameters raise ValueError when the reward is built, and the message has both values."""
    with pytest.raises(ValueError, match=says):
        make(**params)
