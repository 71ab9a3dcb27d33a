"""Configuration of supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Pattern, RowsConfig, Section, TextData


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
    """Weight of some tokens of a response: of those that a pattern matches, or those that a plugin names."""

    pattern: Pattern | None = None
    """A regular expression, searched in the response's text."""
    weight: Annotated[float, Field(ge=0)] | None = None
    """Of what the pattern matches."""
    use: str | None = None
    """A plugin's function that gives spans and their weights, instead of pattern and weight."""

    @model_validator(mode="after")
    def _one_of_both(self) -> SpanWeight:
        if (self.pattern is None) == (self.use is None) or (self.pattern is None) != (self.weight is None):
            raise ValueError("give either pattern and weight, or use")
        return self


class SftLoss(Section):
    """Cross-entropy on response tokens, and how it is averaged."""

    reduction: Literal["token", "sequence_mean", "sequence_sum"] = "token"
    """token: every token of a batch counts alike · sequence_mean: every response does · sequence_sum: sum over a response, mean
    over responses."""
    weights: list[SpanWeight] = Field(default_factory=list)
    """The last entry that names a token gives its weight; tokens that none names weigh 1."""


class SftConfig(RowsConfig):
    """Supervised fine-tuning."""

    stage: Literal["sft"]
    data: SftData
    loss: SftLoss = SftLoss()
    packing: bool = False
    """Put rows one behind the other instead of padding them; they don't see each other."""
