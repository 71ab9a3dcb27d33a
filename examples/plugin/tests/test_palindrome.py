"""Tests of the rewards for palindromes."""

from rewardkit_palindrome import palindrome, palindrome_length

from rewardkit import Rollout, Unscored
from rewardkit.testing import RewardContract


class TestPalindrome(RewardContract):
    """What every reward must do, tried on ``palindrome``."""

    reward = "palindrome"
    good = (Rollout("Say a palindrome.", "Never odd or even."), Rollout("Say a palindrome.", "noon"))
    bad = (Rollout("Say a palindrome.", "I can't."), Rollout("Say a palindrome.", ""))


class TestPalindromeLength(RewardContract):
    """What every reward must do, tried on ``palindrome.length``, which reads a column."""

    reward = "palindrome.length"
    good = (Rollout("A palindrome of four letters?", "noon", {"length": 4}),)
    bad = (
        Rollout("A palindrome of four letters?", "level", {"length": 4}),
        Rollout("A palindrome of four letters?", "four", {"length": 4}),
    )


def test_strict_compares_punctuation():
    """A palindrome of letters alone is none to a strict reader."""
    rollout = Rollout("Say a palindrome.", "Never odd or even.")
    assert palindrome(rollout) == 1.0
    assert palindrome(rollout, strict=True) == 0.0


def test_a_wrong_reference_is_not_a_wrong_answer():
    """A row whose column can't be understood is left unscored."""
    result = palindrome_length(Rollout("?", "noon", {"length": "four"}))
    assert isinstance(result, Unscored)
    assert result.kind == "reference"
