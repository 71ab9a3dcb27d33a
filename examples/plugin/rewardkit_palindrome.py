"""Rewards for completions that read the same backwards."""

from rewardkit import FieldName, Rollout, Score, Unscored, reward


@reward("palindrome")
def palindrome(rollout: Rollout, *, strict: bool = False) -> float:
    """1 where the completion reads the same backwards, else 0.

    Args:
        rollout: What a model wrote.
        strict: Compare case, spaces and punctuation as well.
    """
    return float(_is_palindrome(rollout.completion_text, strict=strict))


@reward("palindrome.length")
def palindrome_length(rollout: Rollout, *, target: FieldName = "length") -> Score | Unscored:
    """1 where the completion is a palindrome of as many letters as the row asks for, 0.5 for one of another length.

    Args:
        rollout: What a model wrote.
        target: The column that holds the number of letters.
    """
    wanted = rollout.fields[target]
    if not isinstance(wanted, int):
        return Unscored("reference", f"{target} should be a whole number of letters, not {wanted!r}")
    if not _is_palindrome(rollout.completion_text, strict=False):
        return Score(0.0, "it reads differently backwards")
    letters = sum(map(str.isalnum, rollout.completion_text))
    return Score(1.0 if letters == wanted else 0.5, f"{letters} letters, asked for {wanted}")


def _is_palindrome(text: str, *, strict: bool) -> bool:
    letters = text if strict else "".join(filter(str.isalnum, text.casefold()))
    # Nothing at all reads the same backwards too, and a model would find that out.
    return letters != "" and letters == letters[::-1]
