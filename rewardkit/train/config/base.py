"""What the configurations of all stages have in common: the model, its optimiser, what is kept and logged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator


def _from_folder(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    return Path(folder, Path(value).expanduser()) if isinstance(value, str) and folder is not None else value


def _model_source(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    return model_source(value, folder) if isinstance(value, str) and folder is not None else value


def model_source(value: str, folder: Path) -> str:
    """Where a model is, as named from a folder: a path made absolute, or a hub name (``name`` or ``owner/name``) as it is."""
    path = Path(folder, Path(value).expanduser())
    is_folder = path.exists() or value.startswith((".", "/", "~")) or value.count("/") > 1
    return str(path) if is_folder else value


def regular_expression(value: str) -> str:
    """The same text. Raises ValueError where it is no regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


FilePath = Annotated[Path, BeforeValidator(_from_folder)]
ModelSource = Annotated[str, BeforeValidator(_model_source)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Pattern = Annotated[str, AfterValidator(regular_expression)]
Decay = Annotated[float, Field(ge=0, lt=1)]
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
    """For sft, and for reward_model with dropout: true. The other stages compare passes of one model, which chance must not tell apart:
    they train without dropout."""
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
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled; matrices only (biases and norms are left alone)."""
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or fall to min_lr by the last step."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive | None = 1.0
    """Longer gradients are scaled down to this length."""

    @model_validator(mode="after")
    def _falls(self) -> OptimizerConfig:
        if self.schedule != "constant" and self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g}), which is to fall to it")
        return self


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

    train: FilePath | Annotated[list[FilePath], Field(min_length=1)]
    """JSONL (plain or .gz) or Parquet."""
    eval: FilePath | Annotated[list[FilePath], Field(min_length=1)] | None = None
    """Held-out rows of the same shape."""
    prompt: str = "prompt"
    """The column with the prompt: text, or chat messages."""
    as_chat: bool = False
    """Turn prompts that are text into one user message."""
    system: str | None = None
    """A system message put before chat prompts that have none."""


class RunConfig(Section):
    """What every stage has."""

    version: Literal[1]
    output: FilePath
    """Folder of the run: checkpoints, metrics.jsonl, the resolved configuration, and in final/ the trained model."""
    model: ModelConfig
    data: TextData
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    seed: int = 0
    shard: bool = False
    """Divide weights, gradients and the optimiser's state among the processes that torchrun or accelerate launch has started, for
    models that do not fit one device. The result does not depend on it."""
    threads: Count | None = None
    """Threads of one process on a CPU; by default what torch chooses, or OMP_NUM_THREADS."""


class RowsEval(Section):
    """How often the held-out rows are looked at."""

    every: NotNegative = 50
    """Steps between evaluations; 0: only before and after."""


class RowsConfig(RunConfig):
    """What stages that learn from given rows have in common."""

    evaluate: RowsEval = RowsEval()
    steps: Count | None = None
    """Optimiser steps; or give epochs."""
    epochs: Positive | None = None
    batch_size: Count = 32
    """Rows per optimiser step."""
    micro_batch_tokens: Count = 8192
    """Most tokens (padding included) that are in memory at once. The result does not depend on it, but for the chance of dropout."""

    max_tokens: Count | None = None
    """Rows with more are left out and counted; by default the model's context."""

    @model_validator(mode="after")
    def _one_length(self) -> RowsConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def total_steps(self, rows: int) -> int:
        """Optimiser steps of the whole run."""
        return self.steps or math.ceil((self.epochs or 1) * rows / self.batch_size)

    def token_limit(self, context: int) -> int:
        """The most tokens of a row, for a model with this context."""
        return min(self.max_tokens or context, context)


def paths(value: Path | Sequence[Path] | None) -> list[Path]:
    """One file, several or none, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, Path) else list(value)


def plain(config: BaseModel) -> Mapping[str, Any]:
    """A configuration with every default filled in, as JSON data."""
    data: dict[str, Any] = config.model_dump(mode="json")
    return data
