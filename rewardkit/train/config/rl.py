"""Configuration of the stages that sample completions and reward them, and of GRPO and its relatives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Count, NotNegative, Pattern, Positive, RunConfig, Section, TextData
from rewardkit.train.config.monitors import MonitorsConfig


class CanaryConfig(Section):
    """Proof that the sampler has taken over the trained weights: some fixed prompts are answered, and the trainer judges the answers."""

    every: NotNegative = 1
    """How often: after every so many updates; 0: never. An engine that shares the trainer's weights is looked at once."""
    limit: Positive | None = None
    """Stop when log-probs differ by more than this, in nats per token on average; by default 0.001 in float32, 0.1 otherwise."""


class RolloutConfig(Section):
    """How completions are sampled."""

    engine: str | dict[str, Any] = "hf"
    """hf: transformers, on any device · vllm · or another that is installed; with parameters, {use: vllm, with: {…}}."""
    canary: CanaryConfig = CanaryConfig()
    prompts_per_step: Count = 32
    group_size: Count = 8
    """Completions of each prompt, which are compared with each other."""
    max_new_tokens: Count = 512
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: NotNegative = 0
    """0: no limit."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """A completion ends after any of these texts, which stay part of it."""
    batch: Count = 256
    """Completions that are sampled at once; whole groups, so at least group_size. While the next ones are sampled these are scored:
    where scoring is slow (programs in a sandbox, a judge), a part of prompts_per_step × group_size hides it."""
    max_mismatch: Positive = 0.3
    """Stop when the sampler's log-probs differ from the trainer's by more than this on average: the weights are out of step."""


class KlConfig(Section):
    """Keep the policy near the model that the run started from."""

    coefficient: Annotated[float, Field(ge=0)] = 0.0
    """0: no reference model is kept."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    place: Literal["loss", "reward"] = "loss"
    """loss: a term per token · reward: taken off the reward, with the estimator k1 as a rule."""
    target: Positive | None = None
    """Adapt the coefficient towards this KL (nats per completion)."""
    horizon: Positive = 10000.0
    """Completions over which an error of 20 % changes an adaptive coefficient by 20 %."""

    @model_validator(mode="after")
    def _can_adapt(self) -> KlConfig:
        if self.target is not None and self.coefficient == 0:
            raise ValueError(
                "target: an adaptive coefficient is multiplied, so it needs a start above 0: set coefficient"
            )
        return self


class ProcessConfig(Section):
    """Learn from a component's rewards per step instead of the total (process rewards)."""

    component: str
    """The component whose scores have steps."""
    separator: str = "\n\n"
    """What ends a step in a completion; there must be as many steps as the component rewards."""
    to_come: bool = True
    """A token gets the rewards of its own step and of those after it, rather than of its own alone."""


LOSSES = {"cispo": "cispo", "gspo": "gspo", "sapo": "sapo", "rloo": "reinforce"}
"""The losses of named algorithms (see ``math.presets``, which needs torch), where they are not ``clip``."""
READ_BY = {
    "eps_low": ("clip", "dual_clip", "gspo"),
    "eps_high": ("clip", "dual_clip", "gspo"),
    "max_ratio": ("clip", "gspo"),
    "dual_clip": ("dual_clip",),
    "cispo_low": ("cispo",),
    "cispo_high": ("cispo",),
    "sapo_tau_positive": ("sapo",),
    "sapo_tau_negative": ("sapo",),
}
"""The losses that each setting has an effect on."""


class AlgorithmConfig(Section):
    """A named algorithm; what else is given replaces a part of it."""

    use: Literal[
        "grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"
    ] = "dapo"
    advantage: Literal["group_std", "batch_std", "none", "rloo", "reinforce_pp", "reinforce_pp_baseline"] | None = None
    """What a reward less the mean of its group is divided by, or another baseline."""
    reduction: Literal["grpo", "bnpo", "dr_grpo", "dapo"] | None = None
    """How tokens are averaged."""
    loss: Literal["clip", "dual_clip", "cispo", "gspo", "sapo", "reinforce"] | None = None
    """The loss of one token."""
    process: ProcessConfig | None = None
    eps_low: Positive | None = None
    """The ratio is held above 1 - eps_low."""
    eps_high: Positive | None = None
    """The ratio is held below 1 + eps_high."""
    max_ratio: Annotated[float, Field(gt=1)] | None = None
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    cispo_low: Annotated[float, Field(ge=0)] | None = None
    cispo_high: Positive | None = None
    sapo_tau_positive: Positive | None = None
    sapo_tau_negative: Positive | None = None

    @model_validator(mode="after")
    def _settings_are_those_of_the_loss(self) -> AlgorithmConfig:
        kind = self.loss or LOSSES.get(self.use, "clip")
        for name, kinds in READ_BY.items():
            if getattr(self, name) is not None and kind not in kinds:
                raise ValueError(f"{name} is for loss: {' or '.join(kinds)}, and the loss is {kind}")
        if self.cispo_low is not None and self.cispo_high is not None and self.cispo_low >= self.cispo_high:
            raise ValueError(f"cispo_low ({self.cispo_low:g}) is not below cispo_high ({self.cispo_high:g})")
        return self


class CorrectionConfig(Section):
    """What is done about a sampler whose log-probs differ from the trainer's."""

    kind: Literal["none", "truncate", "mask"] = "none"
    """truncate: weights min(ratio, high) · mask: nothing is learned from ratios outside [low, high]."""
    level: Literal["token", "sequence"] = "token"
    low: Annotated[float, Field(ge=0)] = 0.0
    high: Positive = 2.0

    @model_validator(mode="after")
    def _keeps_something(self) -> CorrectionConfig:
        if self.kind == "mask" and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) is not below high ({self.high:g}), so nothing would be learned")
        return self


class FilterConfig(Section):
    """Which rollouts teach nothing and are left out."""

    zero_spread: Literal["keep", "drop", "refill"] = "keep"
    """Groups whose rewards are all alike teach nothing: keep them in the averages, leave them out, or sample further prompts
    in their place (dynamic sampling)."""
    refill_rounds: Count = 3
    """refill: how many more batches of prompts may be sampled in one step."""
    truncated: Literal["keep", "mask"] = "keep"
    """Completions cut off by max_new_tokens: keep them, or take their tokens out of the loss."""


class RlEval(Section):
    """How progress is measured on held-out prompts."""

    every: NotNegative = 10
    """Steps between evaluations; 0: only before and after."""
    correct: str | None = None
    """When a completion counts as right: a condition on the reward's components, such as "correct == 1"."""
    gold: str | dict[str, Any] | None = None
    """Another reward (a file, or its content) that is only measured: where it falls while the trained one rises, the policy
    exploits the latter."""
    answer: Pattern | None = None
    """For majority@k: a regular expression whose last match in a completion is its answer (or its first group, if it has one)."""
    limit: Count | None = None
    """Use only the first rows."""


class RlConfig(RunConfig):
    """What stages that sample completions and reward them have in common."""

    data: TextData
    reward: str | dict[str, Any]
    """A reward file, or its content."""
    reward_workers: Count | None = None
    """Worker processes for rewards that need them; by default one per core."""
    steps: Count
    rollout: RolloutConfig = RolloutConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    kl: KlConfig = KlConfig()
    correction: CorrectionConfig = CorrectionConfig()
    filter: FilterConfig = FilterConfig()
    epochs_per_batch: Count = 1
    """How often each batch of rollouts is gone through."""
    updates_per_epoch: Count = 1
    """Optimiser steps that one pass is divided into."""
    micro_batch_tokens: Count = 4096
    """Most tokens (padding included) that are in memory at once in the update. The result does not depend on it."""
    evaluate: RlEval = RlEval()
    monitors: MonitorsConfig = MonitorsConfig()

    @model_validator(mode="after")
    def _whole_groups(self) -> RlConfig:
        if self.rollout.batch < self.rollout.group_size:
            raise ValueError(f"rollout.batch ({self.rollout.batch}) is less than one group ({self.rollout.group_size})")
        return self

    @model_validator(mode="after")
    def _gold_has_prompts(self) -> RlConfig:
        if self.evaluate.gold is not None and self.data.eval is None:
            raise ValueError("evaluate.gold: is measured on held-out prompts, and there are none; set data.eval")
        return self

    @model_validator(mode="after")
    def _process_rewards_are_the_reward(self) -> RlConfig:
        if self.algorithm.process is None:
            return self
        if self.algorithm.advantage is not None:
            raise ValueError("algorithm.advantage: process rewards make the advantages; leave one of the two out")
        if self.kl.place == "reward" and self.kl.coefficient > 0:
            raise ValueError(
                "kl.place: the advantages are made of process rewards, which KL is no part of; use place: loss"
            )
        return self


class GrpoConfig(RlConfig):
    """Group-relative policy optimisation and its relatives, on any composite reward."""

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
