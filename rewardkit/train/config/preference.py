"""Settings of the stages that train on preference pairs: reward models and DPO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Count, Packing, Positive, RowsConfig, Section, Share, TextData


class PairData(TextData):
    """Rows with a preferred and a rejected answer to the same prompt, as text or chat messages.

    If rows have no prompt column, the answers contain the whole dialogue.
    """

    chosen: str = "chosen"
    """The column of the preferred answer."""
    rejected: str = "rejected"
    """The column of the rejected answer."""
    eval_share: Share = 0.1
    """Without data.eval, this share of the rows is held out, chosen by a hash of their prompts."""


class PreferenceConfig(RowsConfig):
    """The settings of every stage that trains on preference pairs."""

    data: PairData
    micro_batch_tokens: Count = 4096

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        names = ("prompt", "chosen", "rejected") if "prompt" in self.data.model_fields_set else ("chosen", "rejected")
        return {("data", name): getattr(self.data, name) for name in names}


class RewardModelLoss(Section):
    """Bradley–Terry: −log σ(chosen − rejected − margin) + centring·(chosen + rejected)²."""

    margin: str | None = None
    """A column with the margin by which the preferred answer is better, in units of the score."""
    centring: Annotated[float, Field(ge=0)] = 0.0
    """Pull the mean score of each pair towards 0. A usual value is 0.01."""


class RewardModelConfig(PreferenceConfig):
    """Train a reward model: a sequence classifier with one output, on any backbone for which transformers has such a class."""

    stage: Literal["reward_model"]
    loss: RewardModelLoss = RewardModelLoss()
    trained: Literal["all", "head"] = "all"
    """all: train the whole model · head: train only the output layer."""
    dropout: bool = False
    """Use the model's dropout. The result then depends on micro_batch_tokens."""
    max_tokens: Count | None = None
    """The beginning of longer dialogues is cut off. The default is the model's context length."""

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        margin = self.loss.margin
        return super().columns() | ({} if margin is None else {("loss", "margin"): margin})

    @model_validator(mode="after")
    def _the_backbone_is_trained_or_not(self) -> RewardModelConfig:
        if self.trained == "head" and self.model.lora is not None:
            raise ValueError(
                "trained: head does not train the backbone, but model.lora trains adapters in it; remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _has_no_logits(self) -> RewardModelConfig:
        if self.model.logprob_memory_mb is not None:
            raise ValueError("model.logprob_memory_mb: a reward model computes no log-probabilities; remove it")
        return self


class DpoConfig(PreferenceConfig):
    """Direct preference optimization (arXiv 2305.18290). The reference is the model that the run starts from."""

    stage: Literal["dpo"]
    beta: Positive = 0.1
    """The strength of the penalty for moving away from the reference."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """sigmoid: DPO · ipo: a squared loss on mean log-probs that does not saturate · hinge: SLiC."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """With loss: sigmoid, the expected share of pairs with swapped labels."""
    packing: Packing = "auto"
    """Let short answers fill lines instead of padding them. They do not attend to each other. auto: where the model keeps them apart,
    which is tried out at the start · true: refuse other models · false: pad."""

    @model_validator(mode="after")
    def _smoothing_has_a_use(self) -> DpoConfig:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing can only be used with loss: sigmoid, and the loss is {self.loss}")
        return self
