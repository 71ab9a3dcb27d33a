"""From a rollout to the tokens that a reward model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewardkit import Rollout
    from rewardkit.types import Message, Text

Input: TypeAlias = Literal["chat", "text", "pair"]


CHARACTERS_PER_TOKEN = 64
"""Text further from the end than so many characters for every token that is read is not even looked at: a completion of a
megabyte must not cost a second."""


class DialogueError(ValueError):
    """A rollout can't be turned into what the model reads."""


def dialogue_tokens(tokenizer: Any, rollout: Rollout, input_: Input, max_tokens: int) -> tuple[list[int], bool]:
    """Tokens of a prompt with its completion.

    Args:
        tokenizer: Of transformers; its ``truncation_side`` must be left, since the completion stands at the end.
        rollout: What is scored.
        input_: ``chat``: by the chat template · ``text``: prompt and completion as one text · ``pair``: as two texts.
        max_tokens: The beginning of what is longer is cut off.

    Returns:
        The tokens, and whether any were cut off.

    Raises:
        DialogueError: The chat template refuses the messages, or there is nothing to read.
    """
    most = CHARACTERS_PER_TOKEN * max_tokens
    if input_ == "chat":
        messages = [*as_messages(rollout.prompt, "user"), *as_messages(rollout.completion, "assistant")]
        shortened = [_shortened(message, most) for message in messages]
        is_cut = shortened != messages
        tokens = _chat_tokens(tokenizer, shortened)
        cut = tokens[-max_tokens:]
    else:
        prompt, completion = encodable(rollout.prompt_text), encodable(rollout.completion_text)
        whole = (prompt, completion) if input_ == "pair" else (_joined(rollout, prompt, completion),)
        texts = tuple(text[-most:] for text in whole)
        is_cut = texts != whole
        tokens = cut = tokenizer(*texts)["input_ids"]
        if len(tokens) > max_tokens:  # once more by the tokenizer, which keeps its special tokens at both ends
            cut = tokenizer(*texts, truncation=True, max_length=max_tokens)["input_ids"]
    if not cut:
        raise DialogueError("prompt and completion are empty: the model has nothing to read")
    return cut, is_cut or len(cut) < len(tokens)


def as_messages(text: Text, role: str) -> list[Message]:
    """Chat messages; plain text becomes one message of ``role``."""
    if isinstance(text, str):
        return [{"role": role, "content": encodable(text)}]
    return [
        {
            **message,
            "content": encodable(content) if isinstance(content := message.get("content"), str) else content or "",
        }
        for message in text
    ]


def _shortened(message: Message, most: int) -> Message:
    content = message.get("content")
    return {**message, "content": content[-most:]} if isinstance(content, str) else message


def encodable(text: str) -> str:
    """The text with lone surrogates replaced: tokenizers take only what UTF-8 can say."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _joined(rollout: Rollout, prompt: str, completion: str) -> str:
    """Text as it was sampled; the texts of messages on lines of their own."""
    if isinstance(rollout.prompt, str) and isinstance(rollout.completion, str):
        return prompt + completion
    return f"{prompt}\n{completion}" if prompt else completion


def _chat_tokens(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    import jinja2  # noqa: PLC0415 - comes with transformers, needed for its errors alone

    try:
        found: list[int] = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise DialogueError(f"the chat template refuses these messages: {error}") from None
    return found
