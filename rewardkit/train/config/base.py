"""Settings that all stages share: model, data, optimizer, checkpoints, logging."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

HUB = "hf:"
"""What a name on Hugging Face's hub begins with."""


def _from_folder(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    if isinstance(value, str) and value.startswith(HUB):
        return Path(value)
    return Path(folder, Path(value).expanduser()) if isinstance(value, str) and folder is not None else value


def _model_source(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    return model_source(value, folder) if isinstance(value, str) and folder is not None else value


def model_source(value: str, folder: Path) -> str:
    """Return a model's absolute path, resolved against a folder; a hub name (``name`` or ``owner/name``) is returned unchanged."""
    path = Path(folder, Path(value).expanduser())
    is_folder = path.exists() or value.startswith((".", "/", "~")) or value.count("/") > 1
    return str(path) if is_folder else value


def regular_expression(value: str) -> str:
    """Return a regular expression unchanged. Raises ValueError if it does not compile."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a valid regular expression: {error}") from None
    return value


FilePath = Annotated[Path, BeforeValidator(_from_folder)]
ModelSource = Annotated[str, BeforeValidator(_model_source)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Pattern = Annotated[str, AfterValidator(regular_expression)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Packing = bool | Literal["auto"]
NotNegative = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of a configuration. It is frozen and refuses unknown keys, and numbers that are infinite or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def refuse_useless(self, names: Sequence[str], why: str) -> None:
        """Raise ValueError if the configuration sets any of these keys, which have no effect."""
        if useless := [name for name in names if name in self.model_fields_set]:
            raise ValueError(f"{useless[0]} has no effect {why}; remove it")


def _module_names(value: str | list[str]) -> str | list[str]:
    if not value:
        raise ValueError("name at least one module, or leave the key out for all linear layers")
    return regular_expression(value) if isinstance(value, str) else value


class LoraConfig(Section):
    """Train low-rank adapters (LoRA, arXiv 2106.09685) with peft instead of all weights."""

    rank: Count = 16
    """The rank of the adapters."""
    alpha: Positive = 32.0
    """The output of an adapter is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Used by sft, and by reward_model with dropout: true. The other stages train without dropout, because they compare passes of one
    model that must not differ by chance."""
    targets: Annotated[str | list[str], AfterValidator(_module_names)] = "all-linear"
    """The modules that get adapters: a list with the last parts of their names, such as [q_proj, v_proj]; a regular expression for whole
    names; or all-linear, which is every linear layer and all experts, without the head."""


class ModelConfig(Section):
    """The model to train."""

    path: ModelSource
    """A folder (./name for one beside this file), or the name of a model on the hub."""
    tokenizer: ModelSource | None = None
    """A folder or hub name of the tokenizer, if it does not come with the model."""
    chat_template: FilePath | None = None
    """A Jinja file that replaces the tokenizer's own chat template."""
    eos_token: str | None = None
    """The token that ends a completion, if it is not the tokenizer's end-of-sequence token: for a chat model the one that its chat
    template puts at the end of the assistant's turn, such as <|im_end|>. The saved model has it, too."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The data type of matrix products. Trained weights and optimizer states are float32; frozen weights, rollout engines and the
    saved model have this type. auto: bfloat16 on a GPU that supports it, else float32. float16 is refused."""
    tf32: bool = False
    """Let NVIDIA GPUs compute float32 matrix products in TF32, which is faster and has 10 bits of mantissa instead of 23."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """The implementation of attention. auto: sdpa if the model supports it, else eager (as for Gemma 2)."""
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    logprob_memory_mb: Count | None = None
    """The memory in MB that the logits of a micro-batch may take. Logits beyond it are computed again in the backward pass, in tiles
    that fit in it. The default is 512 on a CPU and 1024 on a GPU. Not used by reward models."""
    logprob_kernel: Literal["torch", "triton"] = "torch"
    """What computes log-probabilities of logits. triton: a kernel for GPUs that goes over the logits fewer times; it is compared with torch
    at the start, and refused if it differs. Not used by reward models."""
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _range_suffices(self) -> ModelConfig:
        if self.dtype == "float16":
            raise ValueError(
                "dtype: float16 overflows at 65,504, which turns weights into NaN in training; use bfloat16, which takes the same memory, "
                "or float32"
            )
        return self

    @model_validator(mode="after")
    def _kernel_is_installed(self) -> ModelConfig:
        if self.logprob_kernel == "triton" and importlib.util.find_spec("triton") is None:
            raise ValueError(
                "logprob_kernel: triton needs the package triton; run pip install 'rewardkit[triton]', or use torch"
            )
        return self


class OptimizerConfig(Section):
    """AdamW and its learning-rate schedule."""

    use: Literal["adamw", "adamw_foreach", "adamw_8bit"] = "adamw"
    """adamw: torch's fused kernel, which needs no memory besides the moments · adamw_foreach: torch's batched operations, which need
    more · adamw_8bit: moments of 8 bits (arXiv 2110.02861) by bitsandbytes, 2 bytes per weight instead of 8."""
    offload: bool = False
    """On a GPU: keep the moments in the CPU's memory, and copy those of one parameter at a time to the GPU in each step."""
    lr: Positive = 1e-5
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices; biases and norms do not decay."""
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up, the rate stays constant or falls to min_lr by the last step. A run whose rate falls can't be lengthened."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive | None = 1.0
    """Gradients with a larger norm are scaled down to this norm."""
    non_finite: Literal["stop", "skip"] = "stop"
    """When a loss or gradient is infinite or NaN: stop the run, or skip the update and count it in the metric updates_skipped. Ten
    skipped updates in a row stop the run, as do weights that become infinite or NaN."""

    @model_validator(mode="after")
    def _can_be_built(self) -> OptimizerConfig:
        if self.offload and self.use != "adamw":
            raise ValueError(f"offload: only the moments of use: adamw can be offloaded, not those of {self.use}")
        if self.use == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError(
                "use: adamw_8bit needs the package bitsandbytes; run pip install bitsandbytes, or use adamw"
            )
        return self

    @model_validator(mode="after")
    def _falls(self) -> OptimizerConfig:
        if self.schedule == "constant":
            self.refuse_useless(["min_lr"], "with schedule: constant, which does not fall")
        if self.schedule != "constant" and self.min_lr > self.lr:
            raise ValueError(
                f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g}); the schedule falls from lr to min_lr"
            )
        return self


class CheckpointConfig(Section):
    """When the complete state of a run is saved, so that it can resume exactly."""

    every: NotNegative = 50
    """Steps between checkpoints. 0 saves only at the end and when the run is interrupted."""
    keep: Count = 2
    """The number of latest checkpoints to keep, in addition to the best model."""


class LogConfig(Section):
    """Where metrics are logged in addition to metrics.jsonl."""

    tensorboard: bool = False
    wandb: str | None = None
    """The name of a Weights & Biases project."""
    samples: NotNegative = 4
    """The number of rollouts per step that are saved with their component scores."""


class RowSource(Section):
    """Rows from a file with a weight, or from Hugging Face's hub."""

    path: FilePath | None = None
    """A file, a glob, or a folder that save_to_disk of datasets has written. Set this or hub."""
    hub: str | None = None
    """The name of a data set on the hub, or a folder that load_dataset of datasets reads. Needs datasets."""
    config: str | None = None
    """The configuration of the data set, if it has several."""
    split: str = "train"
    """The split of the data set."""
    revision: str | None = None
    """The commit, branch or tag of the data set. The default is the latest."""
    streaming: bool = False
    """Read the rows over the network without storing the data set's files. With rows, only its beginning is read."""
    rows: Count | None = None
    """Read only so many rows. The default is all of them."""
    weight: Positive | None = None
    """The share of this source among the rows that are trained on, relative to the weights of the others. Set it for all sources of
    a list or for none; without weights, each row is trained on equally often."""

    @model_validator(mode="after")
    def _one_origin(self) -> RowSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("set either path or hub")
        useless = [name for name in ("config", "split", "revision", "streaming") if name in self.model_fields_set]
        if self.hub is None and useless:
            raise ValueError(f"{useless[0]} has no effect on a path; remove it")
        return self

    def __str__(self) -> str:
        """Return the source as messages name it."""
        if self.hub is None:
            return str(self.path)
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.hub}{revision}{f':{self.config}' if self.config else ''}:{self.split}"


class TextData(Section):
    """Rows with prompts."""

    train: FilePath | RowSource | Annotated[list[FilePath | RowSource], Field(min_length=1)]
    """The training data: a file, a glob or a folder of datasets, in any format that rewardkit score reads; hf:NAME:SPLIT or a mapping
    with hub for a data set on Hugging Face's hub; or a list of them, perhaps with weights."""
    eval: FilePath | RowSource | Annotated[list[FilePath | RowSource], Field(min_length=1)] | None = None
    """Held-out rows with the same columns, from the same kinds of sources."""
    prompt: str = "prompt"
    """The column of the prompt: text or chat messages. A column may be a path into nested ones, such as prompt.0.content."""
    as_chat: bool = False
    """Treat a text prompt as one user message."""
    system: str | None = None
    """A system message for chat prompts that have none."""

    @model_validator(mode="after")
    def _weights_have_a_use(self) -> TextData:
        weights = source_weights(self.train)
        if any(weight is not None for weight in source_weights(self.eval)):
            raise ValueError("eval: a weight has no effect on held-out rows, which are all evaluated; remove it")
        if weights[0] is not None and len(weights) == 1:
            raise ValueError("train: the weight of a single source has no effect; remove it")
        if None in weights and any(weight is not None for weight in weights):
            raise ValueError("train: some sources have a weight and others have none; set it for all or for none")
        return self


class RunConfig(Section):
    """The settings of every stage."""

    version: Literal[1]
    output: FilePath
    """The folder of the run: checkpoints, metrics.jsonl, the resolved configuration, and the trained model in final/."""
    model: ModelConfig
    data: TextData
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    seed: int = 0
    fsdp: bool = False
    """Shard weights, gradients and optimizer states among the processes (FSDP2), for models that do not fit one device. The result
    does not depend on it."""
    collective_timeout: Positive = 600
    """Seconds that a process waits for the others in one exchange, before the run ends with an error that names the process that did not
    come. Raise it if sampling, scoring or saving in one process may take so much longer than in another."""
    threads: Count | None = None
    """CPU threads per process. The default is OMP_NUM_THREADS, or what torch chooses."""

    @model_validator(mode="after")
    def _moments_can_be_sharded(self) -> RunConfig:
        if self.fsdp and (self.optimizer.offload or self.optimizer.use == "adamw_8bit"):
            key = "offload" if self.optimizer.offload else "use: adamw_8bit"
            raise ValueError(
                f"optimizer.{key} can't be combined with fsdp, which shards the moments of use: adamw among the processes; remove one "
                "of the two"
            )
        return self

    def columns(self) -> dict[tuple[str, ...], str]:
        """Return the columns that every row must have, by the path of the key that names each."""
        return {("data", "prompt"): self.data.prompt}


class RowsEval(Section):
    """When held-out rows are evaluated."""

    every: NotNegative = 50
    """Steps between evaluations. 0 evaluates only before and after training."""


class RowsConfig(RunConfig):
    """The settings of stages that learn from given rows."""

    evaluate: RowsEval = RowsEval()
    steps: Count | None = None
    """The number of optimizer steps. Set this or epochs."""
    epochs: Positive | None = None
    """The number of passes over the rows, rounded up to whole steps: the last one is filled with rows of a further pass, so that a run can
    be lengthened."""
    batch_size: Count = 32
    """Rows per optimizer step."""
    micro_batch_tokens: Count = 8192
    """The most tokens of a micro-batch, padding included. It limits memory and does not change the result, except through dropout."""

    max_tokens: Count | None = None
    """Longer rows are left out and counted. The default is the model's context length."""

    @model_validator(mode="after")
    def _nothing_is_sampled(self) -> RowsConfig:
        if "samples" in self.log.model_fields_set:
            raise ValueError("log.samples has no effect: this stage samples no rollouts; remove it")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> RowsConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set either steps or epochs, and not both")
        return self

    def total_steps(self, rows: int) -> int:
        """Return the number of optimizer steps of a run over so many rows."""
        return self.steps or max(math.ceil(round((self.epochs or 1) * rows / self.batch_size, 6)), 1)

    def token_limit(self, context: int) -> int:
        """Return the most tokens of a row for a model with this context length."""
        return min(self.max_tokens or context, context)


Source: TypeAlias = Path | RowSource
"""Where rows come from."""


def paths(value: Source | Sequence[Source] | None) -> list[Source]:
    """Return one source of rows, several, or none as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, Path | RowSource) else list(value)


def source_weights(value: Source | Sequence[Source] | None) -> list[float | None]:
    """Return the weight of each source of rows; None for one without a weight."""
    return [source.weight if isinstance(source, RowSource) else None for source in paths(value)]


def plain(config: BaseModel) -> Mapping[str, Any]:
    """Return a configuration as JSON data, with all defaults filled in."""
    data: dict[str, Any] = config.model_dump(mode="json")
    return data
