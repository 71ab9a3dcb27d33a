"""Configurations of the stages that learn from preferences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Count, Positive, RowsConfig, Section, Share, TextData


class PairData(TextData):
    """Rows with a preferred and a rejected answer to one prompt, as text or as chat messages.

    Where rows have no prompt column, the two answers hold the whole dialogue.
    """

    chosen: str = "chosen"
    """The column with the preferred answer."""
    rejected: str = "rejected"
    """The column with the other."""
    eval_share: Share = 0.1
    """Without a file of held-out rows, this share of the rows is held out, chosen by the content of their prompts."""


class PreferenceConfig(RowsConfig):
    """What stages on preference pairs share."""

    data: PairData
    micro_batch_tokens: Count = 4096

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        names = ("prompt", "chosen", "rejected") if "prompt" in self.data.model_fields_set else ("chosen", "rejected")
        return {("data", name): getattr(self.data, name) for name in names}


class RewardModelLoss(Section):
    """Bradley–Terry: −log σ(chosen − rejected − margin) + centring·(chosen + rejected)²."""

    margin: str | None = None
    """A column that says by how much the preferred answer is better, in units of the score."""
    centring: Annotated[float, Field(ge=0)] = 0.0
    """Pulls the scores of a pair to a mean of 0; 0.01 is usual."""


class RewardModelConfig(PreferenceConfig):
    """A reward model: a sequence classifier with one output, on any backbone that transformers has one for."""

    stage: Literal["reward_model"]
    loss: RewardModelLoss = RewardModelLoss()
    trained: Literal["all", "head"] = "all"
    """head: leave the backbone as it is and train only what stands on it."""
    dropout: bool = False
    """Use the model's dropout. The result then depends on micro_batch_tokens."""
    max_tokens: Count | None = None
    """Of longer dialogues the beginning is cut off; by default the model's context."""

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        margin = self.loss.margin
        return super().columns() | ({} if margin is None else {("loss", "margin"): margin})

    @model_validator(mode="after")
    def _the_backbone_is_trained_or_not(self) -> RewardModelConfig:
        if self.trained == "head" and self.model.lora is not None:
            raise ValueError(
                "trained: head leaves the backbone as it is, and model.lora trains adapters in it; leave one of the two out"
            )
        return self


class DpoConfig(PreferenceConfig):
    """Direct preference optimisation. The reference is the model that the run starts from."""

    stage: Literal["dpo"]
    beta: Positive = 0.1
    """How much it costs to leave the reference."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """sigmoid: DPO · ipo: a squared loss that does not saturate, on mean log-probabilities · hinge: SLiC."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """sigmoid: the share of pairs believed to be labelled the wrong way round."""

    @model_validator(mode="after")
    def _smoothing_has_a_use(self) -> DpoConfig:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss: sigmoid, and the loss is {self.loss}")
        return self
