"""Completions of causal language models: their tokens, steps and log-probabilities."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.language_models import CHARACTER_TOKENS, WINDOW, steps_of_tokens, token_places, token_texts


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


def decode(tokens):
    """Decode tokens that are bytes, as byte-level tokenizers do; token 256 has no text."""
    return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")


def test_a_part_of_a_character_has_the_place_of_the_whole():
    """Characters of 1, 2, 3 and 4 bytes, and a token without text."""
    tokens = [*"aé€".encode(), 256, *"😀b".encode()]
    assert token_places(tokens, decode) == [
        (0, 1),
        *[(1, 2)] * 2,
        *[(2, 3)] * 3,
        (3, 3),
        *[(3, 4)] * 4,
        (4, 5),
    ]


def test_places_are_right_in_a_long_text():
    """Every token that is a character has the place of that character."""
    generator = random.Random(0)  # noqa: S311
    text = "".join(generator.choices("ab €é\n😀", k=300))
    want = [(place, place + 1) for place, letter in enumerate(text) for _ in letter.encode()]
    assert token_places(list(text.encode()), decode) == want


def test_a_text_that_ends_within_a_character_has_places_for_all_tokens():
    """As in a response that is cut off, and where bytes are no UTF-8 at all."""
    assert token_places(list(b"a\xe2\x82"), decode) == [(0, 1), (1, 2), (1, 2)]
    assert len(token_places([0xFF] * 50, decode)) == 50


def test_each_token_is_decoded_with_few_others():
    """So the time is linear in the number of tokens."""
    decoded = []

    def counting(tokens):
        decoded.append(len(tokens))
        return decode(tokens)

    token_places(list(b"ab") * 1000, counting)
    assert max(decoded) <= WINDOW + CHARACTER_TOKENS
    assert len(decoded) < 1.2 * 2000


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab é€😀\n", max_size=20))
def test_texts_of_tokens_joined_are_the_text_of_all(text):
    """Also where a token holds only a part of a character."""
    assert "".join(token_texts(list(text.encode()), decode)) == text


def test_a_step_may_end_with_a_character_of_several_tokens():
    """All of them belong to the step that it ends."""
    texts = token_texts(list("a€b".encode()), decode)
    assert steps_of_tokens(texts, "€") == [0, 0, 0, 0, 1]


def test_a_step_may_end_with_a_word_behind_a_space():
    """SentencePiece tokenizers lose the space of a token that is decoded alone."""
    words = ["▁1", "▁ok", "▁2", "▁ok"]
    texts = token_texts(range(4), lambda tokens: "".join(words[token] for token in tokens).replace("▁", " ").lstrip())
    assert texts == ["1", " ok", " 2", " ok"]
    assert steps_of_tokens(texts, " ok") == [0, 0, 1, 1]
