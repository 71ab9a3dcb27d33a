"""The text of tokens, as the reward reads it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
