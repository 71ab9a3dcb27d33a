"""Reads preference pairs, holds some out by the content of their prompts, and renders them to tokens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from rewardkit.errors import DataError
from rewardkit.reward_models import DialogueError, InputForm, dialogue_tokens
from rewardkit.train.config import PairData, RewardModelData, SftData, paths
from rewardkit.train.data.rows import Row, read_rows
from rewardkit.train.data.stored_rows import StoredRows
from rewardkit.train.data.tokenization import NO_CHAT_TEMPLATE, Example, Renderer
from rewardkit.types import Message, Rollout, Text, message_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A prompt with one of its answers, as a reward model gets it."""

    tokens: tuple[int, ...]
    characters: int
    """The length of the answer; of the whole dialogue if the rows have no prompt column."""
    is_cut: bool
    """True if the beginning was cut off."""
    is_chat: bool
    """True if the chat template rendered the dialogue."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """The two dialogues of a pair, for a reward model."""

    chosen: Dialogue
    rejected: Dialogue
    margin: float
    subset: str = ""
    """The subset of the row, for the evaluation."""

    @property
    def tokens(self) -> int:
        """The number of tokens of both, padding included."""
        return 2 * max(len(self.chosen.tokens), len(self.rejected.tokens))


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """The chosen and the rejected answer of a pair, for DPO."""

    chosen: Example
    rejected: Example

    @property
    def tokens(self) -> int:
        """The number of tokens of both, padding included."""
        return 2 * max(len(self.chosen.tokens), len(self.rejected.tokens))


def pair_lengths(pairs: Sequence[ScoredPair] | Sequence[AnswerPair]) -> list[int]:
    """Return the number of tokens of both parts of each pair, padding included, without decoding stored rows."""
    if not isinstance(pairs, StoredRows):
        return [pair.tokens for pair in pairs]
    sizes = zip(pairs.sizes("chosen", "tokens"), pairs.sizes("rejected", "tokens"), strict=True)
    return [2 * max(both) for both in sizes]


def read_pairs(data: PairData) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and the held-out rows.

    Without ``data.eval``, rows are held out by a hash of their prompts: rows with the same prompt stay together, and the choice depends
    neither on their order nor on other rows.

    Raises:
        DataError: A file can't be read, a row lacks an answer or has two equal ones, only some rows have a prompt, or all rows are held
            out.
    """
    train, held_out = split_rows(data, lambda row: _prompt_key(row, data))
    _refuse_missing_prompts([*train, *held_out], data)
    for row in (*train, *held_out):
        if row.get(data.chosen) == row.get(data.rejected):
            raise DataError(f"{row.place}: {data.chosen!r} and {data.rejected!r} are equal, so nothing is preferred")
    return train, held_out


def split_rows(data: PairData, key: Callable[[Row], str]) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and the held-out rows: those of ``data.eval``, or a share by a hash.

    Args:
        data: The section ``data``.
        key: Returns the text of a row whose hash decides, such as its prompt.

    Raises:
        DataError: A file can't be read, or all rows are held out.
    """
    rows = read_rows(paths(data.train))
    if data.eval is not None:
        return rows, read_rows(paths(data.eval))
    shares = [_share_of(key(row)) for row in rows]
    train = [row for row, share in zip(rows, shares, strict=True) if share >= data.eval_share]
    if not train:
        raise DataError(f"all {len(rows)} rows were held out; lower data.eval_share ({data.eval_share:g})")
    return train, [row for row, share in zip(rows, shares, strict=True) if share < data.eval_share]


def has_prompt(row: Row, data: PairData) -> bool:
    """Return whether the row has a prompt column. Raises DataError if the configuration names the column and the row lacks it."""
    if row.find(data.prompt) is None:
        if "prompt" in data.model_fields_set:
            row.get(data.prompt)
        return False
    return True


def _refuse_missing_prompts(rows: Sequence[Row], data: PairData) -> None:
    """Raise DataError if some rows have a prompt and others do not: their answers would be taken for whole dialogues."""
    lacking = [row for row in rows if not has_prompt(row, data)]
    if lacking and len(lacking) < len(rows):
        raise DataError(
            f"{lacking[0].place}: there is no value in column {data.prompt!r}, which {len(rows) - len(lacking)} of {len(rows)} rows have. "
            "Without a prompt, answers must contain the whole dialogue; train on such rows separately"
        )


def _prompt_key(row: Row, data: PairData) -> str:
    if has_prompt(row, data):
        return orjson.dumps(row.get(data.prompt), option=orjson.OPT_SORT_KEYS).decode()
    chosen, rejected = row.get(data.chosen), row.get(data.rejected)
    if isinstance(chosen, str) and isinstance(rejected, str):
        return chosen[: _shared_length(chosen, rejected)]
    shared = _shared_length(chosen, rejected)
    return orjson.dumps(list(chosen)[:shared], option=orjson.OPT_SORT_KEYS).decode()


def _share_of(text: str) -> float:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _shared_length(one: Sequence[Any], two: Sequence[Any]) -> int:
    """Return the length of the common prefix."""
    for index, (left, right) in enumerate(zip(one, two, strict=False)):
        if left != right:
            return index
    return min(len(one), len(two))


def subset_of(row: Row, data: PairData) -> str:
    """Return the name of the row's subset, empty without ``data.subset``. Raises DataError if the row has none."""
    name = data.subset if isinstance(data, RewardModelData) else None
    return "" if name is None else str(row.get(name))


class DialogueRenderer:
    """Renders pairs for a reward model: chat messages by the chat template, text unchanged."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: PairData, max_tokens: int) -> None:
        self.data = data
        self.renderer = Renderer(tokenizer, data)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._is_chat: bool | None = None
        """The form of the rows before; None before the first."""
        tokenizer.truncation_side = "left"  # keeps the answer, which is at the end

    def pair(self, row: Row, margin: str | None) -> ScoredPair:
        """Return the two dialogues of a row. Raises DataError if they can't be rendered."""
        by = 0.0
        if margin is not None:
            value = row.get(margin)
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise DataError(f"{row.place}: the margin in column {margin!r} must be a number, found {value!r}")
            by = float(value)
        chosen, rejected = self.dialogue(row, self.data.chosen), self.dialogue(row, self.data.rejected)
        for found in (chosen, rejected):
            if found.is_chat != (found.is_chat if self._is_chat is None else self._is_chat):
                forms = ("chat messages", "text") if found.is_chat else ("text", "chat messages")
                raise DataError(
                    f"{row.place}: this dialogue consists of {forms[0]}, and those before it of {forms[1]}; a reward model is trained on "
                    "one form, which it is then scored with"
                )
            self._is_chat = found.is_chat
        return ScoredPair(chosen, rejected, by, subset_of(row, self.data))

    def dialogue(self, row: Row, column: str) -> Dialogue:
        """Return the prompt with the answer in a column. Raises DataError if it can't be rendered."""
        answer = self.renderer.text(row, column)
        prompt: Text = self.renderer.text(row, self.data.prompt) if has_prompt(row, self.data) else ""
        characters = (
            len(answer) if isinstance(answer, str) else sum(len(message_text(one.get("content"))) for one in answer)
        )
        messages = _as_messages(prompt, answer)
        if messages is None:
            if not isinstance(prompt, str) or not isinstance(answer, str):
                raise DataError(
                    f"{row.place}: the prompt is text and column {column!r} messages; use the same form for both"
                )
            return self._rendered(row, Rollout(prompt, answer), "text", characters)
        if not self.tokenizer.chat_template:
            raise DataError(f"{row.place}: {NO_CHAT_TEMPLATE}")
        if not prompt and messages[0].get("role") != "system":
            messages = [*self.renderer.system(), *messages]
        return self._rendered(row, Rollout([], messages), "chat", characters)

    def _rendered(self, row: Row, rollout: Rollout, form: InputForm, characters: int) -> Dialogue:
        try:
            tokens, is_cut = dialogue_tokens(self.tokenizer, rollout, form, self.max_tokens)
        except DialogueError as error:
            raise DataError(f"{row.place}: {error}") from None
        return Dialogue(tuple(tokens), characters, is_cut, is_chat=form == "chat")


def _as_messages(prompt: Text, answer: Text) -> list[Message] | None:
    """Return prompt and answer as one conversation, or None if the prompt is text."""
    if isinstance(prompt, str):
        return list(answer) if not prompt and not isinstance(answer, str) else None
    return [*prompt, {"role": "assistant", "content": answer}] if isinstance(answer, str) else [*prompt, *answer]


class AnswerRenderer:
    """Renders pairs for DPO: each answer as an example of supervised fine-tuning."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, data: PairData, end_ids: Collection[int] | None = None
    ) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self._with_prompt, self._whole = (
            {
                column: Renderer(tokenizer, _sft_data(data, column, whole=whole), end_ids=end_ids)
                for column in _columns(data)
            }
            for whole in (False, True)
        )

    def pair(self, row: Row) -> AnswerPair:
        """Return the two answers of a row. Raises DataError if they can't be rendered."""
        if not has_prompt(row, self.data) and all(isinstance(row.get(column), str) for column in _columns(self.data)):
            return self._texts(row)
        renderers = self._with_prompt if has_prompt(row, self.data) else self._whole
        # The last example is that of the last turn, in which the two answers differ.
        chosen, rejected = (renderers[column].examples(row)[-1] for column in _columns(self.data))
        return AnswerPair(chosen, rejected)

    def _texts(self, row: Row) -> AnswerPair:
        """Return the answers of two whole texts. Their common prefix is the prompt, whose log-probability cancels out."""
        ids = [self._with_prompt[column].text_with_end(row.get(column)) for column in _columns(self.data)]
        start = max(_shared_length(*ids), 1)
        if start >= min(map(len, ids)):
            raise DataError(f"{row.place}: one of the two answers is the beginning of the other")
        chosen, rejected = (Example(tuple(one), start, (1.0,) * (len(one) - start), row.place) for one in ids)
        return AnswerPair(chosen, rejected)


def _columns(data: PairData) -> tuple[str, str]:
    return data.chosen, data.rejected


def _sft_data(data: PairData, column: str, *, whole: bool) -> SftData:
    shared: Mapping[str, Any] = {
        "train": data.train,
        "system": data.system,
        "train_on": "last",
    }
    if whole:
        return SftData(**shared, messages=column)
    return SftData(**shared, as_chat=data.as_chat, prompt=data.prompt, completion=column)
