"""Reads completions with a label for each of their steps, and renders them for a process reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from rewardkit.errors import DataError
from rewardkit.language_models import completion_tokens, step_ends
from rewardkit.reward_models import DialogueError
from rewardkit.train.config import RewardModelData
from rewardkit.train.data.preference_pairs import split_rows, subset_of
from rewardkit.train.data.rows import Row
from rewardkit.train.data.tokenization import Renderer
from rewardkit.types import Rollout, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """A completion whose steps have labels."""

    tokens: tuple[int, ...]
    """The prompt and the completion."""
    ends: tuple[int, ...]
    """The places of the last tokens of the steps that have a label."""
    labels: tuple[float, ...]
    """The probability that each of these steps is right."""
    is_cut: bool
    """True if the beginning was cut off."""
    is_chat: bool
    """True if the chat template rendered the dialogue."""
    subset: str
    """The subset of the row, for the evaluation."""


def read_step_rows(data: RewardModelData) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and the held-out rows. Without ``data.eval``, they are held out by a hash of their prompts.

    Raises:
        DataError: A file can't be read, a row has no prompt, or all rows are held out.
    """
    return split_rows(
        data, lambda row: orjson.dumps(row.get(data.prompt), option=orjson.OPT_SORT_KEYS, default=list).decode()
    )


class StepRenderer:
    """Renders completions and the labels of their steps."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: RewardModelData, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.data = data
        self.max_tokens = max_tokens
        self._renderer = Renderer(tokenizer, data)

    def steps(self, row: Row) -> LabelledSteps:
        """Return the completion of a row. Raises DataError if it can't be rendered, or its steps and labels do not fit."""
        prompt, completion = self._renderer.text(row, self.data.prompt), self._completion(row)
        labels = self._labels(row)
        try:
            found = completion_tokens(self.tokenizer, Rollout(prompt, completion), ended=False)
        except DialogueError as error:
            raise DataError(f"{row.place}: {error}") from None
        ends = step_ends(self.tokenizer, found, self.data.separator)
        if len(ends) != len(labels):
            raise DataError(
                f"{row.place}: column {self.data.labels!r} has {len(labels)} labels, but data.separator {self.data.separator!r} divides "
                f"the completion into {len(ends)} steps"
            )
        lost = max(len(found.tokens) - self.max_tokens, 0)
        kept = [
            (end - lost, label) for end, label in zip(ends, labels, strict=True) if label is not None and end >= lost
        ]
        if not kept:
            within = f" within the last {self.max_tokens} tokens" if lost else ""
            raise DataError(f"{row.place}: no step has a label{within}")
        return LabelledSteps(
            found.tokens[lost:],
            tuple(end for end, _ in kept),
            tuple(label for _, label in kept),
            is_cut=lost > 0,
            is_chat=not isinstance(prompt, str),
            subset=subset_of(row, self.data),
        )

    def _completion(self, row: Row) -> Text:
        value = row.get(self.data.completion)
        if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(step, str) for step in value):
            if empty := next((place for place, step in enumerate(value, 1) if not step.strip()), None):
                raise DataError(f"{row.place}: step {empty} in column {self.data.completion!r} is empty")
            return self.data.separator.join(step.removesuffix(self.data.separator) for step in value)
        return self._renderer.text(row, self.data.completion)

    def _labels(self, row: Row) -> list[float | None]:
        value: Any = row.get(self.data.labels)
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise DataError(
                f"{row.place}: column {self.data.labels!r} must hold a list with a label per step, found {value!r}"
            )
        for place, label in enumerate(value, 1):
            if label is not None and not (isinstance(label, int | float) and 0 <= label <= 1):
                raise DataError(
                    f"{row.place}: label {place} in column {self.data.labels!r} must be true, false, a number from 0 to 1 or null, found "
                    f"{label!r}"
                )
        return [None if label is None else float(label) for label in value]
