"""Dialogues as a reward model reads them, for training and for scoring alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout
from rewardkit.reward_models import DialogueError, dialogue_tokens, micro_batches


def test_similar_lengths_go_together():
    """5 and 5 fit into 10 tokens, 3, 3 and 2 into 9, and 12 is alone."""
    assert micro_batches([5, 3, 12, 5, 3, 2], 10) == [[2], [0, 3], [1, 4, 5]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_every_sequence_is_in_one_batch(lengths, most):
    """No sequence is lost or repeated, and no batch of several exceeds the limit with its padding."""
    batches = micro_batches(lengths, most)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most for batch in batches)


class _Characters:
    """A tokenizer with a token for every character; texts start with `[` and end with `]`, and chats have `role:content;`."""

    bos_token_id = ord("[")

    def __call__(self, *texts, truncation=False, max_length=None):
        body = "|".join(texts)
        if truncation:
            body = body[max(len(body) - max_length + 2, 0) :]
        return {"input_ids": [ord(one) for one in f"[{body}]"] if body or len(texts) > 1 else []}

    def apply_chat_template(self, messages, **_):
        if any(message["role"] == "tool" for message in messages):
            raise ValueError("no tools")
        return [ord(one) for message in messages for one in f"{message['role'][0]}:{message['content']};"]


def read(prompt, completion, form, limit=100):
    """Return the text that the model reads, and whether its beginning was cut off."""
    tokens, is_cut = dialogue_tokens(_Characters(), Rollout(prompt, completion), form, limit)
    return "".join(map(chr, tokens)), is_cut


SAID = [{"role": "user", "content": "Hi"}]
ANSWER = [{"role": "assistant", "content": "Yo"}]


@pytest.mark.parametrize(
    ("prompt", "completion", "form", "expected"),
    [
        ("Hi", "Yo", "text", "[HiYo]"),
        (SAID, ANSWER, "text", "[Hi\nYo]"),
        ([], ANSWER, "text", "[Yo]"),
        ("Hi", "Yo", "pair", "[Hi|Yo]"),
        ("Hi", "Yo", "chat", "u:Hi;a:Yo;"),
        (SAID, ANSWER, "chat", "u:Hi;a:Yo;"),
        ([], [*SAID, *ANSWER], "chat", "u:Hi;a:Yo;"),
        ("Hi\ud800", "Yo", "text", "[Hi?Yo]"),
    ],
)
def test_forms(prompt, completion, form, expected):
    """Prompt and completion are one text, two texts, or messages, whatever form they came in."""
    assert read(prompt, completion, form) == (expected, False)


@pytest.mark.parametrize("form", ["text", "chat", "pair"])
def test_the_beginning_is_cut_off(form):
    """A dialogue longer than the limit keeps its end, even if it is longer than what the tokenizer is given."""
    for length in (50, 100_000):
        text, is_cut = read("a" * length, "the end", form, 12)
        assert is_cut
        assert len(text) <= 12
        assert "end" in text


def test_what_can_not_be_read():
    """Refused messages and empty dialogues are errors of their own kind."""
    with pytest.raises(DialogueError, match="no tools"):
        read([{"role": "tool", "content": "x"}], ANSWER, "chat")
    with pytest.raises(DialogueError, match="empty"):
        read("", "", "text")
