"""Renders rows to tokens: prompts for sampling, and examples with a weight on every response token for training.

One function renders prompts for both, so that training and sampling see the same prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError
from rewardkit.language_models import chat_turn, text_prompt_tokens, token_places, with_end
from rewardkit.reward_models import DialogueError, chat_tokens, single_bos
from rewardkit.train.config import SftData, TextData
from rewardkit.train.data.rows import Row
from rewardkit.train.data.token_text import text_of
from rewardkit.train.data.token_weights import SpanWeighter, token_weights
from rewardkit.types import Message, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


NO_CHAT_TEMPLATE = "holds chat messages, but the tokenizer has no chat template; set model.chat_template"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt."""

    tokens: tuple[int, ...]
    text: Text
    """The prompt as the reward gets it."""
    fields: Mapping[str, Any]
    """All other columns of the row, and the values at the paths that rewards read."""
    place: str
    source: int = 0
    """The number of the source of the row."""


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenized row to train on."""

    tokens: tuple[int, ...]
    start: int
    """The index of the first token with a weight; at least 1."""
    weights: tuple[float, ...]
    """The weights of the tokens from ``start`` on. A token with weight 0 is not in the loss."""
    place: str


class Renderer:
    """Renders prompts and conversations to tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        data: TextData,
        nested: Sequence[str] = (),
        end_ids: Collection[int] | None = None,
    ) -> None:
        """Create a renderer.

        Args:
            tokenizer: The tokenizer, with its chat template.
            data: The columns, and the system message.
            nested: The paths into nested columns that rewards read.
            end_ids: The tokens that end a completion; by default the tokenizer's end-of-sequence token.
        """
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.data = data
        self.nested = nested
        self._silent = {tokenizer.eos_token_id, tokenizer.pad_token_id}

    def prompt(self, row: Row) -> Prompt:
        """Return the prompt of a row. Raises DataError if it can't be rendered."""
        text = self.text(row, self.data.prompt)
        tokens = self.prompt_tokens(text, row)
        return Prompt(tokens, text, row.fields(self.data.prompt, self.nested), row.place, row.source)

    def text(self, row: Row, column: str) -> Text:
        """Return the text or messages of a column. Raises DataError if it holds anything else."""
        value = row.get(column)
        if isinstance(value, str):
            if self.data.system is not None and column == self.data.prompt and not self.data.as_chat:
                raise DataError(
                    f"{row.place}: the prompt is text, so data.system has no effect on it; set data.as_chat, or remove data.system"
                )
            return (
                [*self.system(), {"role": "user", "content": value}]
                if self.data.as_chat and column == self.data.prompt
                else value
            )
        if (
            isinstance(value, Sequence)
            and value
            and all(isinstance(item, Mapping) and "role" in item for item in value)
        ):
            messages = [{key: part for key, part in item.items() if part is not None} for item in value]
            return (
                messages
                if column != self.data.prompt or messages[0]["role"] == "system"
                else [*self.system(), *messages]
            )
        raise DataError(f"{row.place}: column {column!r} must hold text or chat messages, found {type(value).__name__}")

    def system(self) -> list[Message]:
        """Return the configured system message, or an empty list."""
        return [{"role": "system", "content": self.data.system}] if self.data.system else []

    def prompt_tokens(self, text: Text, row: Row) -> tuple[int, ...]:
        """Return the tokens of a prompt, up to the start of the completion. Raises DataError if there are none."""
        tokens = self.plain_prompt(text) if isinstance(text, str) else self.chat(text, row, prompt=True)
        if not tokens:
            raise DataError(f"{row.place}: the prompt is empty")
        return tokens

    def plain_prompt(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text prompt."""
        return text_prompt_tokens(self.tokenizer, text)

    def text_with_end(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a whole text with one end-of-sequence token."""
        return with_end(self.tokenizer, self.plain_prompt(text))

    def chat(self, messages: Sequence[Message], row: Row, *, prompt: bool) -> tuple[int, ...]:
        """Return the tokens of messages, rendered by the chat template; with ``prompt``, up to the start of the assistant's message."""
        if not self.tokenizer.chat_template:
            raise DataError(f"{row.place}: {NO_CHAT_TEMPLATE}")
        try:
            return tuple(single_bos(self.tokenizer, chat_tokens(self.tokenizer, messages, generation_prompt=prompt)))
        except DialogueError as error:
            raise DataError(f"{row.place}: {error}") from None

    def examples(self, row: Row, weighters: Sequence[SpanWeighter] = ()) -> list[Example]:
        """Return the examples of a row, usually one.

        Some templates render earlier turns differently once later ones follow (for example without their reasoning). Such a
        conversation becomes one example per assistant turn.

        Args:
            row: The row.
            weighters: The functions that weigh the response tokens.

        Raises:
            DataError: The row has no response, or the template renders the prompt differently once there is a response.
        """
        data = self.data
        assert isinstance(data, SftData)  # noqa: S101 - for the type checker
        if data.messages is not None:
            found = self.text(row, data.messages)
            if isinstance(found, str):
                raise DataError(
                    f"{row.place}: column {data.messages!r} holds text, not messages; use prompt and completion"
                )
            return self.conversation(
                [*self.system(), *found] if found[0]["role"] != "system" else list(found), 0, row, weighters
            )
        prompt, completion = self.text(row, data.prompt), self.text(row, data.completion)
        if not isinstance(prompt, str):
            answer: list[Message] = (
                [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
            )
            return self.conversation([*prompt, *answer], len(prompt), row, weighters)
        if not isinstance(completion, str):
            raise DataError(f"{row.place}: the prompt is text and the completion messages; use the same form for both")
        return [self.plain(self.prompt_tokens(prompt, row), completion, row, weighters)]

    def plain(self, before: tuple[int, ...], completion: str, row: Row, weighters: Sequence[SpanWeighter]) -> Example:
        """Return the example of a text completion, which ends with the end-of-sequence token."""
        response = with_end(self.tokenizer, tuple(self.tokenizer(completion, add_special_tokens=False)["input_ids"]))
        if not response:
            raise DataError(f"{row.place}: the completion is empty")
        return Example((*before, *response), len(before), tuple(self.weights(response, row, weighters)), row.place)

    def conversation(
        self, messages: list[Message], first: int, row: Row, weighters: Sequence[SpanWeighter]
    ) -> list[Example]:
        """Return the examples of the assistant turns of a conversation from message ``first`` on."""
        turns = [index for index in range(first, len(messages)) if messages[index].get("role") == "assistant"]
        if not turns:
            raise DataError(f"{row.place}: the conversation has no assistant turn to train on")
        assert isinstance(self.data, SftData)  # noqa: S101 - for the type checker
        if self.data.train_on == "last":
            turns = turns[-1:]
        if not self.tokenizer.chat_template:
            raise DataError(f"{row.place}: {NO_CHAT_TEMPLATE}")
        spoken = []
        for turn in turns:
            try:
                found = chat_turn(self.tokenizer, messages, turn, self.end_ids)
            except DialogueError as error:
                raise DataError(f"{row.place}: {error}") from None
            spoken.append((found.before, found.after, found.end))
        whole = spoken[-1][1]
        if not all(whole[: len(after)] == after for _, after, _ in spoken):
            return [self.turns([one], row, weighters) for one in spoken]
        return [self.turns(spoken, row, weighters)]

    def turns(
        self,
        spoken: Sequence[tuple[tuple[int, ...], tuple[int, ...], int]],
        row: Row,
        weighters: Sequence[SpanWeighter],
    ) -> Example:
        """Return one example of the last rendering, with weight on the assistant's tokens up to the end of each turn."""
        whole = spoken[-1][1][: spoken[-1][2]]
        start = len(spoken[0][0])
        weights = [0.0] * (len(whole) - start)
        for before, after, end in spoken:
            said = after[len(before) : end]
            weights[len(before) - start : len(before) - start + len(said)] = self.weights(said, row, weighters)
        return Example(whole, start, tuple(weights), row.place)

    def weights(self, response: Sequence[int], row: Row, weighters: Sequence[SpanWeighter]) -> list[float]:
        """Return the weight of each token of a response."""
        if not weighters:
            return [1.0] * len(response)
        text = self.read(response)
        spans = [span for weighter in weighters for span in weighter.spans(row, text)]
        return token_weights(token_places(response, self.read), spans)

    def read(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without those that end or pad it."""
        return text_of(self.tokenizer, tokens, self._silent)
