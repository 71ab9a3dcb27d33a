"""The text of each token within the text of all, found in linear time."""

from __future__ import annotations

import random

from rewardkit.train.data.token_text import CHARACTER_TOKENS, WINDOW, token_places


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
