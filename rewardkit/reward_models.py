"""Tokenizes and batches dialogues for reward models.

`rewardkit train` and the reward `reward_model` both use this, so that a model is scored on exactly what it was trained on. Importing
it loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rewardkit.types import Message, Rollout, Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DialogueError",
    "InputForm",
    "choose_padding_token",
    "context_length",
    "dialogue_tokens",
    "is_out_of_memory",
    "micro_batches",
    "padded_batch",
    "release_memory",
]

InputForm: TypeAlias = Literal["chat", "text", "pair"]
"""``chat``: messages, by the chat template; ``text``: prompt and completion as one text; ``pair``: as two texts."""

UNBOUNDED = 1 << 20
"""Tokenizers without a limit report a number far above this."""

CHARACTERS_PER_TOKEN = 64
"""Text further from the end than this many characters for each token that is read is ignored: a completion of a megabyte must not
cost a second."""


class DialogueError(ValueError):
    """A prompt with its completion can't be turned into what the model reads."""


def dialogue_tokens(tokenizer: Any, rollout: Rollout, form: InputForm, max_tokens: int) -> tuple[list[int], bool]:
    """Return the tokens of a prompt with its completion, and whether their beginning was cut off.

    Args:
        tokenizer: A tokenizer of transformers; its ``truncation_side`` must be left, because the completion is at the end.
        rollout: The prompt and the completion.
        form: How the model reads them.
        max_tokens: The beginning of a longer dialogue is cut off.

    Raises:
        DialogueError: The chat template refuses the messages, or there is nothing to read.
    """
    most = CHARACTERS_PER_TOKEN * max_tokens
    if form == "chat":
        messages = [*as_messages(rollout.prompt, "user"), *as_messages(rollout.completion, "assistant")]
        shortened = [_shortened(message, most) for message in messages]
        is_cut = shortened != messages
        tokens = chat_tokens(tokenizer, shortened)
        cut = tokens[-max_tokens:]
    else:
        texts = (encodable(rollout.prompt_text), encodable(rollout.completion_text))
        whole = texts if form == "pair" else (_joined(rollout, *texts),)
        ends = tuple(text[-most:] for text in whole)
        is_cut = ends != whole
        tokens = cut = single_bos(tokenizer, tokenizer(*ends)["input_ids"])
        if len(tokens) > max_tokens:  # once more by the tokenizer, which keeps its special tokens at both ends
            cut = single_bos(tokenizer, tokenizer(*ends, truncation=True, max_length=max_tokens)["input_ids"])
    if not cut:
        raise DialogueError("prompt and completion are empty: the model has nothing to read")
    return cut, is_cut or len(cut) < len(tokens)


def chat_tokens(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool = False) -> list[int]:
    """Return the tokens of messages by the tokenizer's chat template.

    Args:
        tokenizer: A tokenizer of transformers with a chat template.
        messages: The conversation.
        generation_prompt: End with the beginning of the assistant's turn.

    Raises:
        DialogueError: The chat template refuses the messages.
    """
    tokens: list[int] = _rendered(tokenizer, messages, generation_prompt, tokenize=True, return_dict=False)
    return tokens


def chat_text(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
    """Return the text of messages by the tokenizer's chat template.

    Args:
        tokenizer: A tokenizer of transformers with a chat template.
        messages: The conversation.
        generation_prompt: End with the beginning of the assistant's turn.

    Raises:
        DialogueError: The chat template refuses the messages.
    """
    return str(_rendered(tokenizer, messages, generation_prompt, tokenize=False))


def _rendered(tokenizer: Any, messages: Sequence[Message], generation_prompt: bool, **form: bool) -> Any:
    """Apply the chat template. Raises DialogueError if it refuses the messages."""
    import jinja2

    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=generation_prompt, **form
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise DialogueError(f"the chat template refuses these messages: {error}") from None


def single_bos(tokenizer: Any, tokens: Sequence[int]) -> list[int]:
    """Return tokens without a second beginning-of-sequence token, which a tokenizer adds to a text that already begins with one.

    Args:
        tokenizer: A tokenizer of transformers.
        tokens: The tokens of a text.
    """
    bos = tokenizer.bos_token_id
    return list(tokens[1:] if bos is not None and list(tokens[:2]) == [bos, bos] else tokens)


def as_messages(text: Text, role: str) -> list[Message]:
    """Return chat messages; plain text becomes one message.

    Args:
        text: Text or messages.
        role: The role of a plain text.
    """
    if isinstance(text, str):
        return [{"role": role, "content": encodable(text)}]
    return [
        {
            **message,
            "content": encodable(content) if isinstance(content := message.get("content"), str) else content or "",
        }
        for message in text
    ]


def encodable(text: str) -> str:
    """Return the text with lone surrogates replaced, because tokenizers accept only what UTF-8 can encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shortened(message: Message, most: int) -> Message:
    content = message.get("content")
    return {**message, "content": content[-most:]} if isinstance(content, str) else message


def _joined(rollout: Rollout, prompt: str, completion: str) -> str:
    """Texts as they were sampled; the texts of messages on lines of their own."""
    if isinstance(rollout.prompt, str) and isinstance(rollout.completion, str):
        return prompt + completion
    return f"{prompt}\n{completion}" if prompt else completion


def micro_batches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Cut rows into batches of at most ``most_tokens``, padding included; rows of similar length go together.

    Args:
        lengths: The number of tokens of each row.
        most_tokens: The limit of a batch; a longer row is a batch of its own.

    Returns:
        The indices of each batch. The longest rows come first, so that memory runs out at once or never.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that memory ran out: a class on accelerators, a message on CPUs.

    Args:
        error: An error that torch raised.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Give the memory that torch keeps for later back to the accelerator, so that smaller batches fit."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halves(batches: Sequence[Sequence[int]]) -> list[list[int]]:
    """Divide each batch of several rows into two.

    Args:
        batches: The rows of each batch.
    """
    cut = [(batch[: (len(batch) + 1) // 2], batch[(len(batch) + 1) // 2 :]) for batch in batches]
    return [list(part) for parts in cut for part in parts if part]


def context_length(config: Any, tokenizer: Any) -> int:
    """Return the number of tokens that a model can read.

    Args:
        config: The model's configuration, of transformers.
        tokenizer: Its tokenizer.
    """
    limits = (getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length)
    return min((int(limit) for limit in limits if limit and 0 < limit < UNBOUNDED), default=UNBOUNDED)


def choose_padding_token(model: Any, tokenizer: Any) -> int:
    """Choose the token to pad with, and write it into the model's configuration.

    A decoder's score is read at the last token that is not the padding token, so it should not occur elsewhere.

    Args:
        model: A sequence classifier of transformers.
        tokenizer: Its tokenizer.

    Returns:
        The id of the token.

    Raises:
        ValueError: The model has no embedding of the tokenizer's padding and end-of-sequence tokens.
    """
    text_config = model.config.get_text_config()
    known = model.get_input_embeddings().weight.shape[0]
    for found in (
        getattr(model.config, "pad_token_id", None),
        getattr(text_config, "pad_token_id", None),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
    ):
        # Some tokenizers invent a padding token that the model has no embedding of.
        if isinstance(found, int) and 0 <= found < known:
            text_config.pad_token_id = model.config.pad_token_id = found
            return found
    raise ValueError(
        "the tokenizer has neither a padding nor an end-of-sequence token that the model knows, so it can't pad"
    )


def padded_batch(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Return the token ids and the attention mask of rows, padded at the right to the longest. Shapes: (N, T), int64.

    Args:
        rows: The tokens of each row.
        padding: The id of the padding token.
    """
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), padding, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids, mask
