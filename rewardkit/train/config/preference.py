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


class RewardModelData(PairData):
    """Preference pairs, or, with ``level: step``, completions with a label for each of their steps."""

    subset: str | None = None
    """A column that names the subset of a held-out row. The evaluation then has the accuracy of each subset, as RewardBench reports it."""
    completion: str = "completion"
    """With level: step, the column of the completion: text or chat messages, divided by the separator, or a list of the steps' texts, which
    the separator joins."""
    labels: str = "labels"
    """With level: step, the column of the labels, a list: for each step true, false, a number from 0 to 1, or null, which leaves the step
    out of the loss."""
    separator: Annotated[str, Field(min_length=1)] = "\n\n"
    """With level: step, the string that ends a step."""


class RewardModelLoss(Section):
    """Bradley–Terry: −log σ(chosen − rejected − margin) + centring·(chosen + rejected)². With level: step, the cross-entropy per step."""

    margin: str | None = None
    """A column with the margin by which the preferred answer is better, in units of the score."""
    centring: Annotated[float, Field(ge=0)] = 0.0
    """Pull the mean score of each pair towards 0. A usual value is 0.01."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The expected share of wrong labels: of pairs with swapped answers, or of steps."""


class RewardModelConfig(PreferenceConfig):
    """Train a reward model: a classifier with one output, on any backbone for which transformers has such a class."""

    stage: Literal["reward_model"]
    data: RewardModelData
    level: Literal["completion", "step"] = "completion"
    """completion: an outcome reward model, a sequence classifier that is trained on preference pairs · step: a process reward model, a
    token classifier that is trained on a label for each step of a completion (arXiv 2305.20050)."""
    loss: RewardModelLoss = RewardModelLoss()
    trained: Literal["all", "head"] = "all"
    """all: train the whole model · head: train only the output layer."""
    dropout: bool = False
    """Use the model's dropout. The result then depends on micro_batch_tokens."""
    max_tokens: Count | None = None
    """The beginning of longer dialogues is cut off. The default is the model's context length."""

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        if self.level == "step":
            return {("data", name): getattr(self.data, name) for name in ("prompt", "completion", "labels")}
        margin = self.loss.margin
        return super().columns() | ({} if margin is None else {("loss", "margin"): margin})

    @model_validator(mode="after")
    def _keys_are_those_of_the_level(self) -> RewardModelConfig:
        is_step = self.level == "step"
        names = ("chosen", "rejected") if is_step else ("completion", "labels", "separator")
        useless = [f"data.{name}" for name in names if name in self.data.model_fields_set]
        if is_step:
            useless += [f"loss.{name}" for name in ("margin", "centring") if name in self.loss.model_fields_set]
        if useless:
            raise ValueError(f"{useless[0]} has no effect with level: {self.level}; remove it")
        return self

    @model_validator(mode="after")
    def _the_backbone_is_trained_or_not(self) -> RewardModelConfig:
        if self.trained == "head" and self.model.lora is not None:
            raise ValueError(
                "trained: head does not train the backbone, but model.lora trains adapters in it; remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _has_no_logits(self) -> RewardModelConfig:
        for key, default in (("logprob_memory_mb", None), ("logprob_kernel", "torch")):
            if getattr(self.model, key) != default:
                raise ValueError(f"model.{key}: a reward model computes no log-probabilities; remove it")
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
