"""Checks that the chat template ends the assistant's turn with a token that ends a completion.

Base models often come with a chat template whose turns end with another token than their end-of-sequence token (Qwen2.5: ``<|im_end|>``
and ``<|endoftext|>``). Trained with it, a model never learns to stop, and every completion runs on until ``max_new_tokens``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rewardkit.train.data.tokenization import Example, Prompt
from rewardkit.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANSWER = "rewardkit answers"
_DIALOGUE: Sequence[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]


def turn_end(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...] | None:
    """Return the tokens that the chat template puts behind an assistant's last message.

    Returns:
        The tokens; None if there is no chat template, or if it does not render a simple dialogue.
    """
    import jinja2

    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template([dict(message) for message in _DIALOGUE], tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError):
        return None  # a template that needs other messages; rows that it refuses are reported with their place
    _, answer, after = str(text).rpartition(_ANSWER)
    return tuple(tokenizer(after, add_special_tokens=False)["input_ids"]) if answer else None


def turn_end_problem(
    tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int], stop: Sequence[str] = ()
) -> str | None:
    """Return why completions of chat prompts would not end, with the remedy, or None if they would.

    Args:
        tokenizer: The tokenizer with its chat template.
        end_ids: The tokens that end a completion.
        stop: The texts that end a completion.
    """
    after = turn_end(tokenizer)
    if after is None or set(after) & set(end_ids):
        return None
    text = str(tokenizer.decode(list(after)))
    if any(item in text for item in stop):
        return None
    names = " or ".join(repr(tokenizer.convert_ids_to_tokens(token)) for token in sorted(end_ids))
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    own = next((token for token in after if token in special), None)
    if own is None:
        how = f"with {text!r}" if text else "with nothing"
        remedy = f"end the assistant's messages in the chat template (model.chat_template) with {names}"
    else:
        how = f"with {tokenizer.convert_ids_to_tokens(own)!r}"
        remedy = f"set model.eos_token: {str(tokenizer.convert_ids_to_tokens(own))!r}"
    return (
        f"the chat template ends the assistant's turn {how}, which does not end a completion (only {names} does): the model would not "
        f"stop after its answer. To mend this, {remedy}"
    )


def endless_prompt_problem(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int], stop: Sequence[str]
) -> str | None:
    """Return ``turn_end_problem`` if any of the prompts is a chat prompt."""
    is_chat = any(not isinstance(prompt.text, str) for prompt in prompts)
    return turn_end_problem(tokenizer, end_ids, stop) if is_chat else None


def endless_response_problem(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]
) -> str | None:
    """Return why a model that is trained on these responses would not learn to stop, with the remedy, or None if it would."""
    ends = set(end_ids)
    endless = next((item for item in examples if ends.isdisjoint(item.tokens[item.start :])), None)
    if endless is None:
        return None
    return turn_end_problem(tokenizer, end_ids) or (
        f"{endless.place}: the response has no end-of-sequence token, so the model would not learn to stop"
    )
