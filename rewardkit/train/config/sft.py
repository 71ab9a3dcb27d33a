"""Configuration of supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewardkit.train.config.base import RowsConfig, Section, TextData


class SftData(TextData):
    """Rows to imitate: prompt and completion, or whole conversations."""

    completion: str = "completion"
    """The column with the response: text, or messages."""
    messages: str | None = None
    """A column with whole conversations, read instead of prompt and completion."""
    train_on: Literal["assistant", "last"] = "assistant"
    """Of a conversation: every assistant turn, or only the last."""
    shuffle: bool = True


class SpanWeight(Section):
    """Weight of the response tokens that a pattern matches."""

    pattern: str
    """A regular expression, searched in the response's text."""
    weight: Annotated[float, Field(ge=0)]


class SftLoss(Section):
    """Cross-entropy on response tokens, and how it is averaged."""

    reduction: Literal["token", "sequence_mean", "sequence_sum"] = "token"
    """token: every token of a batch counts alike · sequence_mean: every response does · sequence_sum: sum over a response, mean
    over responses."""
    weights: list[SpanWeight] = Field(default_factory=list)
    """The last pattern that matches a token gives its weight; tokens that none matches weigh 1."""


class SftConfig(RowsConfig):
    """Supervised fine-tuning."""

    stage: Literal["sft"]
    data: SftData
    loss: SftLoss = SftLoss()
    packing: bool = False
    """Put rows one behind the other instead of padding them; they don't see each other."""
