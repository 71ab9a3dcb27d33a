"""What a training configuration may say. Needs no torch: a configuration can be checked where nothing can be trained.

The models here are the schema, too: ``read_train_config`` holds a YAML file against it and tells every problem with file, line
and column. Relative paths are taken from the folder of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator


def _from_folder(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    return Path(folder, Path(value).expanduser()) if isinstance(value, str) and folder is not None else value


def _model_source(value: object, info: ValidationInfo) -> object:
    """A folder's path made absolute; a hub name as it is."""
    folder = (info.context or {}).get("folder")
    if not isinstance(value, str) or folder is None:
        return value
    path = Path(folder, Path(value).expanduser())
    return str(path) if path.exists() or value.startswith((".", "/", "~")) else value


FilePath = Annotated[Path, BeforeValidator(_from_folder)]
ModelSource = Annotated[str, BeforeValidator(_model_source)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A part of a configuration: frozen, and it refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LoraConfig(Section):
    """Train low-rank adapters instead of all weights (by peft)."""

    rank: Count = 16
    """Rank of the adapters."""
    alpha: Positive = 32.0
    """Scale: what an adapter adds is multiplied by alpha / rank."""
    dropout: Share = 0.0
    targets: str | list[str] = "all-linear"
    """Names of the modules that get adapters."""


class ModelConfig(Section):
    """The model that is trained."""

    path: ModelSource
    """A folder (write ./name for one beside this file) or the name of a model on the hub."""
    tokenizer: ModelSource | None = None
    """Where the tokenizer is, if not with the model."""
    chat_template: FilePath | None = None
    """A Jinja file that replaces the tokenizer's own chat template."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False
    """Compute activations twice to hold fewer of them."""
    trust_remote_code: bool = False


class OptimizerConfig(Section):
    """AdamW and the course of its learning rate."""

    lr: Positive = 1e-5
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled; matrices only (biases and norms are left alone)."""
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or fall to min_lr by the last step."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive | None = 1.0
    """Longer gradients are scaled down to this length."""


class CheckpointConfig(Section):
    """When the whole state of a run is kept, so that it can go on as if nothing had happened."""

    every: NotNegative = 50
    """Steps between checkpoints; 0: only at the end and when interrupted."""
    keep: Count = 2
    """How many of the latest are kept (beside the best)."""


class LogConfig(Section):
    """Where figures go beside metrics.jsonl."""

    tensorboard: bool = False
    wandb: str | None = None
    """A Weights & Biases project."""
    samples: NotNegative = 4
    """Rollouts that are kept with their component scores, per step."""


class TextData(Section):
    """Rows with prompts."""

    train: FilePath | list[FilePath]
    """JSONL (plain or .gz) or Parquet."""
    eval: FilePath | list[FilePath] | None = None
    """Held-out rows of the same shape."""
    prompt: str = "prompt"
    """The column with the prompt: text, or chat messages."""
    as_chat: bool = False
    """Turn prompts that are text into one user message."""
    system: str | None = None
    """A system message put before chat prompts that have none."""


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
    weights: list[SpanWeight] = []
    """The last pattern that matches a token gives its weight; tokens that none matches weigh 1."""


class RunConfig(Section):
    """What every stage has."""

    version: Literal[1]
    output: FilePath
    """Folder of the run: checkpoints, metrics.jsonl, the resolved configuration, and in final/ the trained model."""
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    seed: int = 0
    threads: Count | None = None
    """Threads of one process on a CPU; by default what torch chooses, or OMP_NUM_THREADS."""


class SftEval(Section):
    """How often held-out loss is measured."""

    every: NotNegative = 50
    """Steps between evaluations; 0: only at the end."""


class SftConfig(RunConfig):
    """Supervised fine-tuning."""

    stage: Literal["sft"]
    data: SftData
    loss: SftLoss = SftLoss()
    evaluate: SftEval = SftEval()
    steps: Count | None = None
    """Optimiser steps; or give epochs."""
    epochs: Positive | None = None
    batch_size: Count = 32
    """Rows per optimiser step."""
    micro_batch_tokens: Count = 8192
    """Most tokens (padding included) that are in memory at once. The result does not depend on it."""
    max_tokens: Count | None = None
    """Longer rows are left out and counted; by default the model's context."""
    packing: bool = False
    """Put rows one behind the other instead of padding them; they don't see each other."""

    @model_validator(mode="after")
    def _one_length(self) -> SftConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class RolloutConfig(Section):
    """How completions are sampled."""

    engine: Literal["hf"] = "hf"
    """hf: transformers, on any device."""
    prompts_per_step: Count = 32
    group_size: Count = 8
    """Completions of each prompt, which are compared with each other."""
    max_new_tokens: Count = 512
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: NotNegative = 0
    """0: no limit."""
    stop: list[str] = []
    """A completion ends after any of these texts, which stay part of it."""
    batch: Count = 256
    """Completions that are sampled at once; whole groups, so at least group_size."""
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


class ProcessConfig(Section):
    """Learn from a component's rewards per step instead of the total (process rewards)."""

    component: str
    """The component whose scores have steps."""
    separator: str = "\n\n"
    """What ends a step in a completion; there must be as many steps as the component rewards."""
    to_come: bool = True
    """A token gets the rewards of its own step and of those after it, rather than of its own alone."""


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
    eps_low: Annotated[float, Field(ge=0)] | None = None
    """The ratio is held above 1 - eps_low."""
    eps_high: Annotated[float, Field(ge=0)] | None = None
    """The ratio is held below 1 + eps_high."""
    max_ratio: Positive | None = None
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    cispo_low: Annotated[float, Field(ge=0)] | None = None
    cispo_high: Positive | None = None
    sapo_tau_positive: Positive | None = None
    sapo_tau_negative: Positive | None = None


class CorrectionConfig(Section):
    """What is done about a sampler whose log-probs differ from the trainer's."""

    kind: Literal["none", "truncate", "mask"] = "none"
    """truncate: weights min(ratio, high) · mask: nothing is learned from ratios outside [low, high]."""
    level: Literal["token", "sequence"] = "token"
    low: Annotated[float, Field(ge=0)] = 0.0
    high: Positive = 2.0


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
    answer: str | None = None
    """For majority@k: a regular expression whose last match in a completion is its answer (or its first group, if it has one)."""
    limit: Count | None = None
    """Use only the first rows."""


class MonitorsConfig(Section):
    """When a run raises an alarm, and what happens then. A bound of null switches a monitor off."""

    on_alarm: Literal["warn", "stop", "rollback"] = "warn"
    """warn: tell it and go on · stop: keep everything and end · rollback: go back to the last checkpoint before the trouble, and
    end with it."""
    patience: Count = 3
    """Steps in a row that a figure must be out of its bound."""
    gold_drop: Positive | None = 0.05
    """By how much the held-out reward (evaluate.gold) may fall below its best while the trained reward rises."""
    kl: Positive | None = 0.5
    """Most KL divergence per token from the starting model, in nats (where a reference is kept)."""
    length_correlation: Positive | None = 0.9
    """Highest correlation of length and reward over a batch."""
    repetition: Positive | None = 0.5
    """Highest mean share of a completion's runs of four tokens that occurred in it before."""
    truncated: Share | None = 0.5
    """Highest share of completions cut off by max_new_tokens."""
    clipped: Positive | None = 0.5
    """Highest share of clipped tokens."""
    mismatch_kl: Positive | None = 0.1
    """Highest KL divergence of sampler and trainer per token, in nats."""
    zero_spread: Share | None = 0.95
    """Highest share of groups without spread."""
    entropy_share: Share | None = 0.05
    """Least entropy as a share of the first step's."""
    mismatch_ess: Share | None = 0.5
    """Least effective sample size as a share of the tokens."""
    explained_variance: float | None = -1.0
    """Least explained variance of the critic's values."""


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


class CriticConfig(Section):
    """What estimates the reward to come, and how advantages are made of it."""

    kind: Literal["own", "head"] = "own"
    """own: a model of its own that starts as a copy of the policy · head: a second head on the policy."""
    lr: Positive = 1e-5
    """Of the critic's own model; a head learns at the policy's rate."""
    coefficient: Positive = 0.5
    """head: weight of its loss beside the policy's."""
    warmup_steps: NotNegative = 0
    """Steps at the beginning in which only the critic learns."""
    gamma: Share = 1.0
    """Discount per token."""
    lam: Share = 0.95
    """GAE's lambda."""
    clip: Positive | None = 0.2
    """How far values may move in one batch; null: any distance."""
    whiten: bool = True
    """Normalise advantages over the batch."""


class PpoRolloutConfig(RolloutConfig):
    """How completions are sampled: for PPO, one of each prompt."""

    prompts_per_step: Count = 128
    group_size: Count = 1


class PpoAlgorithmConfig(AlgorithmConfig):
    """The token loss and the reduction; advantages are the critic's."""

    use: Literal[
        "grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"
    ] = "bnpo"


class PpoKlConfig(KlConfig):
    """Keep the policy near the model that the run started from: for PPO, by the reward."""

    coefficient: Annotated[float, Field(ge=0)] = 0.05
    estimator: Literal["k1", "k2", "k3"] = "k1"
    place: Literal["loss", "reward"] = "reward"


class PpoMonitorsConfig(MonitorsConfig):
    """When a run raises an alarm; with one completion per prompt no group has any spread."""

    zero_spread: Share | None = None


class PpoConfig(RlConfig):
    """Proximal policy optimisation with a critic, as InstructGPT has it."""

    stage: Literal["ppo"]
    critic: CriticConfig = CriticConfig()
    monitors: PpoMonitorsConfig = PpoMonitorsConfig()
    algorithm: PpoAlgorithmConfig = PpoAlgorithmConfig()
    rollout: PpoRolloutConfig = PpoRolloutConfig()
    kl: PpoKlConfig = PpoKlConfig()
    epochs_per_batch: Count = 4

    @model_validator(mode="after")
    def _no_baseline_of_groups(self) -> PpoConfig:
        if self.algorithm.process is not None:
            raise ValueError("algorithm.process: process rewards are for stage grpo")
        if self.algorithm.advantage is not None:
            raise ValueError("algorithm.advantage: in PPO advantages come from the critic")
        if self.filter.zero_spread != "keep":
            raise ValueError(
                "filter.zero_spread: PPO compares a completion with the critic, not with its group; use keep"
            )
        return self


def paths(value: Path | Sequence[Path] | None) -> list[Path]:
    """One file, several or none, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, Path) else list(value)


def plain(config: BaseModel) -> Mapping[str, Any]:
    """A configuration with every default filled in, as JSON data."""
    data: dict[str, Any] = config.model_dump(mode="json")
    return data
