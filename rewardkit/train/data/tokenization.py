"""From rows to tokens: prompts to sample from, and examples to imitate with a weight on every response token.

A prompt is rendered by one function for both, so that training and sampling can't see different templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError
from rewardkit.reward_models import DialogueError, chat_tokens
from rewardkit.train.config import SftData, TextData
from rewardkit.train.data.rows import Row
from rewardkit.train.data.token_weights import SpanWeighter, token_weights
from rewardkit.types import Message, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


NO_CHAT_TEMPLATE = "holds chat messages, but the tokenizer has no chat template; set model.chat_template"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What completions are sampled for."""

    tokens: tuple[int, ...]
    text: Text
    """As the reward sees it."""
    fields: Mapping[str, Any]
    """All other columns of the row, and the values at the paths that rewards read."""
    place: str


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens to imitate."""

    tokens: tuple[int, ...]
    start: int
    """Where the first token with a weight stands; at least 1."""
    weights: tuple[float, ...]
    """Of the tokens from ``start`` on; 0: not in the loss."""
    place: str


class Renderer:
    """Turns prompts and conversations into tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: TextData, nested: Sequence[str] = ()) -> None:
        """Create a renderer.

        Args:
            tokenizer: The tokenizer, with its chat template.
            data: The columns, and the system message.
            nested: The paths into nested columns that rewards read.
        """
        self.tokenizer = tokenizer
        self.data = data
        self.nested = nested

    def prompt(self, row: Row) -> Prompt:
        """The prompt of a row. Raises DataError."""
        text = self.text(row, self.data.prompt)
        tokens = self.prompt_tokens(text, row)
        return Prompt(tokens, text, row.fields(self.data.prompt, self.nested), row.place)

    def text(self, row: Row, column: str) -> Text:
        """A column that holds text or messages."""
        value = row.get(column)
        if isinstance(value, str):
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
        """The configured system message, if any."""
        return [{"role": "system", "content": self.data.system}] if self.data.system else []

    def prompt_tokens(self, text: Text, row: Row) -> tuple[int, ...]:
        """Tokens up to where the completion begins."""
        tokens = (
            tuple(self.tokenizer(text)["input_ids"]) if isinstance(text, str) else self.chat(text, row, prompt=True)
        )
        if not tokens:
            raise DataError(f"{row.place}: the prompt is empty")
        return tokens

    def chat(self, messages: Sequence[Message], row: Row, *, prompt: bool) -> tuple[int, ...]:
        """Tokens of messages by the tokenizer's chat template; with ``prompt`` up to where the assistant begins."""
        if not self.tokenizer.chat_template:
            raise DataError(f"{row.place}: {NO_CHAT_TEMPLATE}")
        try:
            return tuple(chat_tokens(self.tokenizer, messages, generation_prompt=prompt))
        except DialogueError as error:
            raise DataError(f"{row.place}: {error}") from None

    def examples(self, row: Row, weighers: Sequence[SpanWeighter] = ()) -> list[Example]:
        """What a row has to imitate: as a rule one example.

        A conversation whose template shows earlier turns otherwise once they are past (as some leave out what was thought)
        becomes one example per assistant turn.

        Raises:
            DataError: The row holds no response, or the template changes the prompt once there is a response.
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
                [*self.system(), *found] if found[0]["role"] != "system" else list(found), 0, row, weighers
            )
        prompt, completion = self.text(row, data.prompt), self.text(row, data.completion)
        if not isinstance(prompt, str):
            answer: list[Message] = (
                [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
            )
            return self.conversation([*prompt, *answer], len(prompt), row, weighers)
        if not isinstance(completion, str):
            raise DataError(f"{row.place}: the prompt is text and the completion messages; use the same form for both")
        return [self.plain(self.prompt_tokens(prompt, row), completion, row, weighers)]

    def plain(self, before: tuple[int, ...], completion: str, row: Row, weighers: Sequence[SpanWeighter]) -> Example:
        """A text after a prompt, ended by the end-of-sequence token."""
        tokens = tuple(self.tokenizer(completion, add_special_tokens=False)["input_ids"])
        eos = self.tokenizer.eos_token_id
        response = (*tokens, eos) if isinstance(eos, int) else tokens
        if not response:
            raise DataError(f"{row.place}: the completion is empty")
        return Example((*before, *response), len(before), tuple(self.weights(response, row, weighers)), row.place)

    def conversation(
        self, messages: list[Message], first: int, row: Row, weighers: Sequence[SpanWeighter]
    ) -> list[Example]:
        """Assistant turns of a conversation from message ``first`` on."""
        turns = [index for index in range(first, len(messages)) if messages[index].get("role") == "assistant"]
        if not turns:
            raise DataError(f"{row.place}: the conversation has no assistant turn to learn from")
        assert isinstance(self.data, SftData)  # noqa: S101 - for the type checker
        if self.data.train_on == "last":
            turns = turns[-1:]
        spoken = []
        for turn in turns:
            before, after = (
                self.chat(messages[:turn], row, prompt=True),
                self.chat(messages[: turn + 1], row, prompt=False),
            )
            if after[: len(before)] != before:
                raise DataError(
                    f"{row.place}: the chat template renders the prompt of turn {turn + 1} otherwise once there is a response, so "
                    "training and sampling would see different prompts; correct model.chat_template"
                )
            end = max(
                (at + 1 for at, token in enumerate(after) if token == self.tokenizer.eos_token_id), default=len(after)
            )
            spoken.append((before, after, end if end > len(before) else len(after)))
        whole = spoken[-1][1]
        if not all(whole[: len(after)] == after for _, after, _ in spoken):
            return [self.turns([one], row, weighers) for one in spoken]
        return [self.turns(spoken, row, weighers)]

    def turns(
        self, spoken: Sequence[tuple[tuple[int, ...], tuple[int, ...], int]], row: Row, weighers: Sequence[SpanWeighter]
    ) -> Example:
        """One example of the last rendering, with weight on what the assistant says up to the end of each turn."""
        whole = spoken[-1][1][: spoken[-1][2]]
        start = len(spoken[0][0])
        weights = [0.0] * (len(whole) - start)
        for before, after, end in spoken:
            said = after[len(before) : end]
            weights[len(before) - start : len(before) - start + len(said)] = self.weights(said, row, weighers)
        return Example(whole, start, tuple(weights), row.place)

    def weights(self, response: Sequence[int], row: Row, weighers: Sequence[SpanWeighter]) -> list[float]:
        """Weight of each token of a response."""
        if not weighers:
            return [1.0] * len(response)
        text = self.read(response)
        ends = [len(self.read(response[: count + 1])) for count in range(len(response))]
        return token_weights(ends, [span for weigher in weighers for span in weigher.spans(row, text)])

    def read(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
