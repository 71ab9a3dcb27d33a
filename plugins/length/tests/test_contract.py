"""Every reward of this plugin keeps the contract, in tokens and in characters."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

from rewardkit import Rollout
from rewardkit.testing import RewardContract


def lengths(*lengths):
    """Return a rollout for each length, with as many tokens as characters."""
    return tuple(Rollout("Tell me.", "x" * length, num_tokens=length) for length in lengths)


class TestPenaltyInTokens(RewardContract):
    """``length.penalty`` per token."""

    reward = "length.penalty"
    params = {"per_token": 0.01, "free": 20}
    good = lengths(0, 20)
    bad = lengths(21, 50, 1000)


class TestPenaltyInCharacters(RewardContract):
    """``length.penalty`` per character, without a floor."""

    reward = "length.penalty"
    params = {"per_char": 0.5, "floor": None}
    good = lengths(0, 1)
    bad = lengths(2, 1000)


class TestOverlongInTokens(RewardContract):
    """``length.overlong`` in tokens."""

    reward = "length.overlong"
    params = {"max_tokens": 100, "buffer": 20}
    good = lengths(0, 80, 85)
    bad = lengths(90, 100, 101)


class TestOverlongInCharacters(RewardContract):
    """``length.overlong`` in characters, as a step."""

    reward = "length.overlong"
    params = {"max_chars": 100, "buffer": 0}
    good = lengths(0, 100)
    bad = lengths(101)


class TestCosine(RewardContract):
    """``length.cosine`` for right answers: the shorter, the better."""

    reward = "length.cosine"
    params = {"max_tokens": 100, "shortest": 1.0, "longest": 0.5, "beyond": 0.0}
    good = lengths(0, 50)
    bad = lengths(60, 100, 101)


class TestCosineRising(RewardContract):
    """``length.cosine`` for wrong answers: the longer, the better."""

    reward = "length.cosine"
    params = {"max_chars": 100, "shortest": -1.0, "longest": -0.5}
    good = lengths(60, 100, 101)
    bad = lengths(0, 50)


class TestTargetInTokens(RewardContract):
    """``length.target`` with both ends and a margin."""

    reward = "length.target"
    params = {"min_tokens": 50, "max_tokens": 100, "margin": 10}
    good = lengths(50, 100)
    bad = lengths(49, 101, 0, 500)


class TestTargetInCharacters(RewardContract):
    """``length.target`` with an open end."""

    reward = "length.target"
    params = {"min_chars": 50}
    good = lengths(50, 500)
    bad = lengths(0, 49)
