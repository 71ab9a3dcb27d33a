"""Settings of the stages that sample completions and score them: GRPO and its relatives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from rewardkit.train.config.base import (
    Count,
    NotNegative,
    Packing,
    Pattern,
    Positive,
    RunConfig,
    Section,
    TextData,
)
from rewardkit.train.config.monitors import MonitorsConfig


class WeightSyncCheckConfig(Section):
    """A check that the rollout engine samples from the trained weights: it answers fixed prompts, and both compute log-probs."""

    every: NotNegative = 1
    """Steps between checks. 0 switches the check off. An engine that shares the trainer's weights is checked once."""
    limit: Positive | None = None
    """The run stops if the mean difference of log-probs exceeds this, in nats per token. The default is 0.001 in float32 and 0.1
    otherwise."""


class RolloutConfig(Section):
    """How completions are sampled."""

    engine: str | dict[str, Any] = "hf"
    """The engine: hf (transformers, any device), vllm, or one that a plugin offers. With parameters: {use: vllm, with: {…}}."""
    weight_sync_check: WeightSyncCheckConfig = WeightSyncCheckConfig()
    prompts_per_step: Count = 32
    group_size: Count = 8
    """Completions per prompt."""
    max_new_tokens: Count = 512
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: NotNegative = 0
    """Sample from the most probable tokens only. 0 sets no limit."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """A completion ends after any of these strings. The string stays part of the completion."""
    skip_special_tokens: bool = False
    """Leave all special tokens out of the text that the reward reads, even a <think> that is one. Tokens that end or pad a completion
    are always left out."""
    batch: Count = 256
    """Completions sampled at once, in whole groups. While a batch is sampled, the batch before it is scored. If scoring is slow, set
    this to a fraction of prompts_per_step × group_size, so that scoring overlaps with sampling."""
    max_sampling_logp_difference: Positive = 0.3
    """The run stops if the engine's log-probs differ from the trainer's by more than this on average, in nats per token."""


class KlConfig(Section):
    """A KL penalty that keeps the policy near the model that the run started from."""

    coefficient: Annotated[float, Field(ge=0)] = 0.0
    """The coefficient of the penalty. With 0 no reference model is loaded."""
    estimator: Literal["k1", "k2", "k3"] | None = None
    """How KL is estimated per token (joschu.net/blog/kl-approx.html). The default is k1 in the reward and k2 in the loss. k3 in the loss
    is multiplied by the probability ratio, so that it stays unbiased over several updates of a batch. Other combinations have a wrong
    expected gradient and are refused."""
    place: Literal["loss", "reward"] = "loss"
    """loss: a term of the loss per token · reward: subtracted from the reward."""
    target: Positive | None = None
    """Adapt the coefficient to reach this KL divergence, in nats per completion (arXiv 1909.08593)."""
    horizon: Positive = 10000.0
    """The number of completions over which an error of 20 % changes an adaptive coefficient by 20 %."""
    offload_reference: bool = False
    """On a GPU: keep the weights of the reference model in the CPU's memory, and copy them to the GPU for its passes."""

    @property
    def chosen_estimator(self) -> Literal["k1", "k2", "k3"]:
        """The estimator, which by default depends on the place."""
        return self.estimator or ("k1" if self.place == "reward" else "k2")

    @model_validator(mode="after")
    def _gradient_is_right(self) -> KlConfig:
        if self.place == "loss" and self.estimator == "k1":
            raise ValueError(
                "estimator: k1 in the loss has an expected gradient of 0, so it would not hold the policy; use k2 or k3, or place: reward"
            )
        if self.place == "reward" and self.estimator in {"k2", "k3"}:
            raise ValueError(
                f"estimator: {self.estimator} in the reward has an expected gradient that is not that of the KL divergence (it is far too "
                "small, and can point the other way); use k1, or place: loss"
            )
        return self

    @model_validator(mode="after")
    def _has_an_effect(self) -> KlConfig:
        if self.coefficient == 0 and self.target is None and "coefficient" not in self.model_fields_set:
            self.refuse_useless(["estimator", "place"], "without a coefficient, which is 0 by default")
        if self.target is None:
            self.refuse_useless(["horizon"], "without a target, to which the coefficient adapts")
        return self

    @model_validator(mode="after")
    def _can_adapt(self) -> KlConfig:
        if self.target is not None and self.coefficient == 0:
            raise ValueError("target: an adaptive coefficient needs a positive start; set coefficient")
        return self


class ProcessConfig(Section):
    """Learn from the rewards per step of a component (process rewards) instead of the total."""

    component: str
    """The component that returns a score per step."""
    separator: str = "\n\n"
    """The string that separates steps. A completion must have as many steps as the component rewards."""
    to_come: bool = True
    """A token gets the rewards of its own step and all later ones, not of its own step alone."""


def _loss_source(value: object, info: ValidationInfo) -> object:
    """Resolve the file of ``file.py:name`` against the configuration's folder."""
    folder = (info.context or {}).get("folder")
    if isinstance(value, dict) and "use" in value:
        return {**value, "use": _loss_source(value["use"], info)}
    if isinstance(value, str) and folder is not None and re.search(r"\.py:\w+$", value):
        return str(Path(folder, Path(value).expanduser()))
    return value


Algorithm: TypeAlias = Literal[
    "grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"
]
AdvantageKind: TypeAlias = Literal["group_std", "batch_std", "none", "rloo", "reinforce_pp", "reinforce_pp_baseline"]
Reduction: TypeAlias = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


class AlgorithmConfig(Section):
    """An algorithm by name. Each further setting replaces a part of it."""

    use: Algorithm = "dapo"
    advantage: AdvantageKind | None = None
    """How rewards become advantages: the baseline, and what the difference is divided by."""
    reduction: Reduction | None = None
    """How token losses are averaged."""
    loss: Annotated[str | dict[str, Any] | None, BeforeValidator(_loss_source)] = None
    """The loss of one token: clip, dual_clip, sequence_clip, gspo, cispo, sapo, reinforce, or your own as package.module:name or
    ./file.py:name. With settings: {use: clip, with: {eps_high: 0.28}}."""
    process: ProcessConfig | None = None

    @property
    def loss_name(self) -> str | None:
        """The loss that the configuration names, if any."""
        return self.loss.get("use") if isinstance(self.loss, dict) else self.loss

    @property
    def loss_settings(self) -> Mapping[str, Any]:
        """The settings of the loss that the configuration gives."""
        return self.loss.get("with", {}) if isinstance(self.loss, dict) else {}


class VerifierNoise(Section):
    """The error rates of the verifier that gives the reward, such as `rewardkit noise` measures them."""

    fp: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of wrong completions that the verifier accepts."""
    fn: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of right completions that the verifier rejects."""
    component: str | None = None
    """The component whose values of 1 and 0 are the verdicts. By default the whole reward is the verdict, and must be 0 or 1."""
    repeated: bool = False
    """Whether asking again about the same completion may give another verdict, as from a judge at a temperature or from flaky tests. The
    verdicts on equal completions of a prompt then add up."""
    ask: Count = 1
    """The most verdicts that are asked for on a completion. Above 1, completions that are right with a probability between 0.05 and 0.95
    are scored again, one of each answer or text of a prompt. This needs `repeated`."""
    answer: Pattern | None = None
    """For tasks with one right answer: a regular expression. Its last match in a completion (the first group, if it has one) is the
    answer. Completions of a prompt with equal answers are then right or wrong together, and at most one of the answers is right."""

    @model_validator(mode="after")
    def _says_something(self) -> VerifierNoise:
        if self.fp + self.fn >= 1:
            raise ValueError(
                f"fp ({self.fp:g}) and fn ({self.fn:g}) add up to 1 or more: such a verifier accepts wrong completions at least as "
                "often as right ones, so its verdicts carry no information"
            )
        if self.fp == self.fn == 0:
            raise ValueError("fp and fn are both 0, so there is nothing to correct; remove correction.verifier")
        if self.ask > 1 and not self.repeated:
            raise ValueError(
                f"ask: {self.ask} asks again about a completion, which says nothing new unless another verdict may come; set "
                "repeated: true, or remove ask"
            )
        return self


class CorrectionConfig(Section):
    """Importance correction for a rollout engine whose log-probs differ from the trainer's, and correction for a verifier that errs."""

    kind: Literal["none", "truncate", "mask"] = "none"
    """truncate: token weights are min(ratio, high) · mask: ratios outside [low, high] get weight 0."""
    level: Literal["token", "sequence"] = "token"
    low: Annotated[float, Field(ge=0)] = 0.0
    high: Positive = 2.0
    verifier: VerifierNoise | None = None
    """Error rates of the verifier. Advantages are then computed from the probability that each completion is right (reward channel of
    arXiv 2510.00915)."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> CorrectionConfig:
        if self.kind == "none":
            self.refuse_useless(["level", "low", "high"], "with kind: none")
        if self.kind == "truncate":
            self.refuse_useless(["low"], "with kind: truncate, which only limits high ratios")
        return self

    @model_validator(mode="after")
    def _keeps_something(self) -> CorrectionConfig:
        if self.kind == "mask" and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) is not below high ({self.high:g}), so every token would be masked")
        return self


class FilterConfig(Section):
    """How rollouts without a training signal are handled."""

    zero_std: Literal["keep", "drop", "refill"] = "keep"
    """Groups whose rewards are all equal: keep them in the averages, drop them, or sample other prompts instead (dynamic sampling,
    arXiv 2503.14476)."""
    refill_rounds: Count = 3
    """With refill: the most additional batches of prompts that one step may sample."""
    truncated: Literal["keep", "mask"] = "keep"
    """Completions cut off by max_new_tokens: keep them, or mask their tokens in the loss."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> FilterConfig:
        if self.zero_std != "refill":
            self.refuse_useless(["refill_rounds"], f"with zero_std: {self.zero_std}")
        return self


class RlEval(Section):
    """Evaluation on held-out prompts."""

    every: NotNegative = 10
    """Steps between evaluations. 0 evaluates only before and after training."""
    correct: str | None = None
    """A condition on the reward's components under which a completion counts as correct, such as "correct == 1"."""
    gold: str | dict[str, Any] | None = None
    """A second reward (a file or its content) that is only measured. If it falls while the trained reward rises, the policy exploits
    the trained reward."""
    answer: Pattern | None = None
    """For majority@k: a regular expression. Its last match in a completion (the first group, if it has one) is the answer."""
    limit: Count | None = None
    """Use only the first rows."""


class RlConfig(RunConfig):
    """The settings of stages that sample completions and score them with a reward."""

    data: TextData
    reward: str | dict[str, Any]
    """The reward: a file or its content."""
    reward_workers: Count | None = None
    """Worker processes for rewards that need them. The default is one per core."""
    steps: Count
    rollout: RolloutConfig = RolloutConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    kl: KlConfig = KlConfig()
    correction: CorrectionConfig = CorrectionConfig()
    filter: FilterConfig = FilterConfig()
    epochs_per_batch: Count = 1
    """Passes over each batch of rollouts."""
    updates_per_epoch: Count = 1
    """Optimizer steps per pass."""
    micro_batch_tokens: Count = 4096
    """The most tokens of a micro-batch of the update, padding included. It limits memory and does not change the result."""
    packing: Packing = "auto"
    """Let short sequences fill lines instead of padding them, in all passes of the update. They do not attend to each other. auto: where
    the model keeps them apart, which is tried out at the start · true: refuse other models · false: pad."""
    evaluate: RlEval = RlEval()
    monitors: MonitorsConfig = MonitorsConfig()

    @model_validator(mode="after")
    def _whole_groups(self) -> RlConfig:
        if self.rollout.batch < self.rollout.group_size:
            raise ValueError(
                f"rollout.batch ({self.rollout.batch}) is smaller than one group ({self.rollout.group_size})"
            )
        return self

    @model_validator(mode="after")
    def _reference_can_be_offloaded(self) -> RlConfig:
        if not self.kl.offload_reference:
            return self
        if self.kl.coefficient == 0:
            raise ValueError(
                "kl.offload_reference has no effect, because without a kl.coefficient there is no reference model"
            )
        if self.model.lora is not None:
            raise ValueError(
                "kl.offload_reference has no effect with model.lora, where the reference is the policy without its adapters"
            )
        if self.fsdp:
            raise ValueError(
                "kl.offload_reference can't be combined with fsdp, which shards the reference among the processes"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_has_prompts(self) -> RlConfig:
        if self.data.eval is not None:
            return self
        # Written down as null, data.eval switches the evaluation off, whose settings may stay.
        names = ["gold"] if "eval" in self.data.model_fields_set else ["gold", "correct", "answer", "limit"]
        if useless := [name for name in names if getattr(self.evaluate, name) is not None]:
            raise ValueError(f"evaluate.{useless[0]} needs held-out prompts; set data.eval")
        return self

    @model_validator(mode="after")
    def _process_rewards_are_the_reward(self) -> RlConfig:
        if self.algorithm.process is None:
            return self
        if self.algorithm.advantage is not None:
            raise ValueError(
                "algorithm.advantage can't be combined with process rewards, which define the advantages; remove one of the two"
            )
        if self.correction.verifier is not None:
            raise ValueError(
                "correction.verifier can't be combined with process rewards, which are not verdicts; remove one of the two"
            )
        if self.kl.place == "reward" and self.kl.coefficient > 0:
            raise ValueError(
                "kl.place: process rewards define the advantages, so KL can't be part of the reward; use place: loss"
            )
        return self


class GrpoConfig(RlConfig):
    """Group relative policy optimization (arXiv 2402.03300) and its relatives, with any composite reward."""

    stage: Literal["grpo"]

    @model_validator(mode="after")
    def _groups_compare(self) -> GrpoConfig:
        alone = self.algorithm.advantage or ("reinforce_pp" if self.algorithm.use == "reinforce++" else "")
        if self.rollout.group_size < 2 and alone != "reinforce_pp":
            raise ValueError(
                "rollout.group_size is 1, but this algorithm compares the completions of a group; use at least 2, or "
                "algorithm: {use: reinforce++}"
            )
        return self
