"""Completions of causal language models: their tokens, steps and log-probabilities."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.language_models import steps_of_tokens


def test_steps_of_tokens_by_hand():
    """Steps end with the separator, however tokens cut it; a repeated or trailing separator makes no empty step."""
    assert steps_of_tokens(["a", "b\n", "\nc", "d"]) == [0, 0, 0, 1]  # "\nc" starts within the separator
    assert steps_of_tokens(["a", "\n\n", "\n\n", "b", "\n\n"]) == [0, 0, 0, 1, 1]
    assert steps_of_tokens(["\n\n", "a", "\n", "b"], "\n") == [0, 0, 0, 1]
    assert steps_of_tokens([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab\n", max_size=3), max_size=12))
def test_steps_of_tokens_have_no_gaps(tokens):
    """Step numbers start at 0 and rise by at most 1 where every token is a single character."""
    characters = list("".join(tokens))
    steps = steps_of_tokens(characters)
    assert len(steps) == len(characters)
    assert all(b - a in (0, 1) for a, b in zip([0, *steps], [*steps], strict=False))
