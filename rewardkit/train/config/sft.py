"""Settings of supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Packing, Pattern, RowsConfig, Section, TextData


class SftData(TextData):
    """Demonstrations: prompt and completion, or whole conversations."""

    completion: str = "completion"
    """The column of the response: text or messages."""
    messages: str | None = None
    """A column of whole conversations, read instead of prompt and completion."""
    train_on: Literal["assistant", "last"] = "assistant"
    """Train on every assistant turn of a conversation, or only on the last."""
    shuffle: bool = True

    @model_validator(mode="after")
    def _conversations_are_whole(self) -> SftData:
        if self.messages is not None:
            self.refuse_useless(
                ["prompt", "completion", "as_chat"], "with messages, which is read instead of prompt and completion"
            )
        return self


class SpanWeight(Section):
    """The weight of some tokens of a response: those that a pattern matches, or those that a plugin selects."""

    pattern: Pattern | None = None
    """A regular expression that is searched in the text of the response."""
    weight: Annotated[float, Field(ge=0)] | None = None
    """The weight of the tokens that the pattern matches."""
    use: str | None = None
    """A plugin's function that returns spans and their weights, instead of pattern and weight."""

    @model_validator(mode="after")
    def _one_of_both(self) -> SpanWeight:
        if (self.pattern is None) == (self.use is None) or (self.pattern is None) != (self.weight is None):
            raise ValueError("set either pattern and weight, or use")
        return self


class SftLoss(Section):
    """Cross-entropy of the response tokens."""

    reduction: Literal["token", "sequence_mean", "sequence_sum"] = "token"
    """token: mean over all tokens of a batch · sequence_mean: mean over responses of their token means · sequence_sum: mean over
    responses of their token sums."""
    weights: list[SpanWeight] = Field(default_factory=list)
    """Weights of tokens. The last entry that selects a token sets its weight; other tokens have weight 1."""


class SftConfig(RowsConfig):
    """Supervised fine-tuning."""

    stage: Literal["sft"]
    data: SftData
    loss: SftLoss = SftLoss()
    packing: Packing = "auto"
    """Let short sequences fill lines instead of padding them. They do not attend to each other. auto: where the model keeps them apart,
    which is tried out at the start · true: refuse other models · false: pad."""

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        if self.data.messages is not None:
            return {("data", "messages"): self.data.messages}
        return {("data", "prompt"): self.data.prompt, ("data", "completion"): self.data.completion}
