"""The text of tokens: of a completion as the reward reads it, and of each token within it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"
"""What an incomplete UTF-8 character is decoded to."""
CHARACTER_TOKENS = 4
"""The largest number of tokens that one UTF-8 character can be divided into."""
WINDOW = 16
"""The number of tokens that are decoded together to find out the text of the last one."""


def text_of(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[int],
    silent: Collection[int] = (),
    *,
    skip_special_tokens: bool = False,
) -> str:
    """Return the text of tokens.

    Args:
        tokenizer: The tokenizer.
        tokens: The token ids.
        silent: Tokens without text: those that end or pad a completion.
        skip_special_tokens: Leave out all special tokens.
    """
    return str(
        tokenizer.decode(
            [token for token in tokens if token not in silent],
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=False,
        )
    )


def token_places(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[tuple[int, int]]:
    """Return the place of each token's text in the text of all tokens, as (first character, character after the last).

    A token that holds a part of a UTF-8 character has the place of the whole character, and a token without text an empty place. The
    time is linear in the number of tokens, because each is decoded with a few neighbours only, whose number has a limit.

    Args:
        tokens: The token ids.
        decode: Returns the text of tokens.
    """
    places: list[tuple[int, int]] = []
    start = read = position = complete = 0
    known = ""  # the text of tokens[start:read], which ends at ``position``
    for index in range(len(tokens)):
        text = decode(tokens[start : index + 1])
        is_last = index + 1 == len(tokens) or index - read >= CHARACTER_TOKENS - 1
        if text.endswith(REPLACEMENT) and not is_last:
            now = max(len(text.rstrip(REPLACEMENT)) - len(known), complete)
            places.append((position + complete, position + now + 1))
            complete = now
            continue
        new = max(len(text) - len(known), complete)
        places.append((position + complete, position + new))
        position, complete, read, known = position + new, 0, index + 1, text
        if read - start >= WINDOW:
            start = read - CHARACTER_TOKENS
            known = decode(tokens[start:read])
    return places
