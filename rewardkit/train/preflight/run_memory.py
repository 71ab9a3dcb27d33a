"""Estimates the memory of a training run from its configuration, and compares it with what this machine has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from rewardkit.train.config import PpoConfig, RlConfig, RowsConfig
from rewardkit.train.config.preference import PreferenceConfig, RewardModelConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.config.vllm import VllmParams
from rewardkit.train.models.loading import best_device
from rewardkit.train.models.logprobs import CPU_MEMORY_MB, GPU_MEMORY_MB, PLAIN_LOGITS
from rewardkit.train.models.precision import resolve_dtype
from rewardkit.train.preflight.memory_estimate import (
    CUDA_CONTEXT,
    CUDA_OVERHEAD,
    FLOAT32,
    GIB,
    HEAP_OVERHEAD,
    HEAP_OVERHEAD_ADAPTERS,
    Memory,
    MicroBatch,
    RowLengths,
    Weights,
    head_bytes,
    held_by_process,
    largest_micro_batch,
    moment_bytes,
    per_process,
    sampling_bytes,
    step_bytes,
)
from rewardkit.train.preflight.memory_trace import ModelSize, TracedModel

TYPICAL_LIBRARIES = 150 * 2**20
"""Memory that a training process takes for libraries that are imported after the configuration is checked."""


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """The memory of the device that a process trains on."""

    name: str
    total: int
    """Bytes for all processes on the device."""
    is_shared: bool
    """Whether all processes of the machine share it, as main memory."""


def estimate_run(file: TrainFile, lengths: RowLengths, processes: int = 1) -> Memory:
    """Estimate the peak memory of a process.

    Args:
        file: The configuration.
        lengths: The lengths of the training rows.
        processes: Number of training processes.

    Raises:
        ConfigError: The model does not exist.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    config = file.config
    device = best_device()
    dtype = resolve_dtype(config.model, device)
    compute = dtype.itemsize
    is_scorer = isinstance(config, RewardModelConfig)
    location = file.where("model", "path")
    if is_scorer:
        is_step = isinstance(config, RewardModelConfig) and config.level == "step"
        auto = AutoModelForTokenClassification if is_step else AutoModelForSequenceClassification
        traced = TracedModel(auto, config.model, dtype, location, num_labels=1)
        if isinstance(config, RewardModelConfig) and config.trained == "head":
            traced.freeze_backbone()
    else:
        traced = TracedModel(AutoModelForCausalLM, config.model, dtype, location)
    size = traced.size()
    sharded = config.fsdp and processes > 1
    trained = per_process(size.trained, processes, sharded=sharded)
    kind = config.optimizer.use
    micro = micro_batch(file, lengths, processes)
    gradients = FLOAT32 * trained
    activations = traced.pass_bytes(micro.rows, micro.length)
    head = 0
    if not is_scorer:
        budget = config.model.logprob_memory_mb or (CPU_MEMORY_MB if device.type == "cpu" else GPU_MEMORY_MB)
        head = head_bytes(
            micro.rows * micro.scored,
            size.width,
            size.vocabulary,
            compute=compute,
            budget=budget * 2**20,
            plain=PLAIN_LOGITS,
            trains_head=size.trains_head,
            is_lent=compute == FLOAT32 or not size.trains_head,
        )
        if sharded and size.trains_head:  # its gradient is made whole, and then divided
            head += FLOAT32 * size.vocabulary * size.width
    weights = held_by_process(
        Weights(size.weights, size.trained, size.largest_layer, size.outside), processes, sharded=sharded
    )
    heap = HEAP_OVERHEAD if config.model.lora is None else HEAP_OVERHEAD_ADAPTERS
    overhead = heap if device.type == "cpu" else CUDA_OVERHEAD
    static = {
        "process" if device.type == "cpu" else "CUDA": _base_bytes(device),
        "weights": weights,
        "moments": 0 if config.optimizer.offload else moment_bytes(trained, kind),
    }
    update = {
        "gradients": gradients,
        "activations": activations,
        "log-probs": head,
        "optimizer step": 0,
        "allocator": int(overhead * activations),
    }
    phases = {"update": update, "optimizer step": {"gradients": gradients, "optimizer step": step_bytes(trained, kind)}}
    if isinstance(config, RlConfig):
        _add_reference(config, size, static, compute, processes, sharded=sharded)
        if isinstance(config, PpoConfig) and config.critic.kind == "own":
            static["critic"] = weights + moment_bytes(trained, kind)
        phases["sampling"] = _sampling(file, config, size, lengths, compute, processes, device)
    return Memory(static, phases)


def micro_batch(file: TrainFile, lengths: RowLengths, processes: int) -> MicroBatch:
    """Return the shape of the largest micro-batch of a configuration.

    Args:
        file: The configuration.
        lengths: The lengths of the training rows.
        processes: Number of training processes.
    """
    config = file.config
    if isinstance(config, RlConfig):
        rollout = config.rollout
        rows = -(-rollout.prompts_per_step * rollout.group_size // config.updates_per_epoch)
        return largest_micro_batch(lengths.whole, lengths.scored, -(-rows // processes), config.micro_batch_tokens)
    assert isinstance(config, RowsConfig)  # noqa: S101 - there are no others
    rows = -(-config.batch_size // processes)
    found = largest_micro_batch(lengths.whole, lengths.scored, rows, config.micro_batch_tokens)
    is_step = isinstance(config, RewardModelConfig) and config.level == "step"
    if isinstance(config, PreferenceConfig) and not is_step:  # a row is a pair
        return MicroBatch(2 * found.rows, -(-found.length // 2), -(-found.scored // 2))
    return found


def machine_memory() -> MachineMemory:
    """Return the memory of the device that training would use, or of the container that this process runs in."""
    device = best_device()
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return MachineMemory(found.name, found.total_memory, is_shared=False)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            total = min(total, int(text))
    return MachineMemory("this machine", total, is_shared=True)


def memory_warning(memory: Memory, machine: MachineMemory, file: TrainFile, processes: int) -> str | None:
    """Return a warning if a run does not fit, with what to change, or None.

    Args:
        memory: The estimate.
        machine: What there is.
        file: The configuration.
        processes: Number of training processes on this machine.
    """
    needed = memory.peak * (processes if machine.is_shared else 1)
    if needed <= machine.total:
        return None
    config = file.config
    remedies = [
        "lower micro_batch_tokens",
        *(["set model.gradient_checkpointing: true"] if not config.model.gradient_checkpointing else []),
        *(["train adapters (model.lora)"] if config.model.lora is None else []),
        *(["set fsdp: true"] if processes > 1 and not config.fsdp else []),
        *(["lower rollout.batch"] if memory.largest_phase == "sampling" else []),
    ]
    return f"the run needs about {needed / GIB:.1f} GiB and {machine.name} has {machine.total / GIB:.1f} GiB; {', or '.join(remedies)}"


def _add_reference(
    config: RlConfig, size: ModelSize, static: dict[str, int], compute: int, processes: int, *, sharded: bool
) -> None:
    """Add the frozen reference model, if there is one: with adapters it is the policy itself."""
    has_reference = config.kl.coefficient > 0 and config.model.lora is None and not config.kl.offload_reference
    if has_reference:
        static["reference"] = compute * per_process(size.parameters, processes, sharded=sharded)


def _sampling(
    file: TrainFile,
    config: RlConfig,
    size: ModelSize,
    lengths: RowLengths,
    compute: int,
    processes: int,
    device: torch.device,
) -> dict[str, int]:
    """Return what the rollout engine needs while it samples."""
    rollout = config.rollout
    prompts = -(-rollout.prompts_per_step // processes)
    rows = min(rollout.batch, prompts * rollout.group_size)
    longest = max(lengths.whole)
    found = sampling_bytes(rows, longest, size.cache_per_token, size.vocabulary, compute=compute)
    engine = file.engine
    if engine is None or not isinstance(engine.params, VllmParams):
        return found
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return {"vLLM": int(engine.params.gpu_memory_utilization * total)}
    return {"vLLM": compute * size.parameters + found["generation cache"]}


def _base_bytes(device: torch.device) -> int:
    """Return what a process takes before it loads a model: that of this one, which has imported the same libraries."""
    if device.type != "cpu":
        return int(CUDA_CONTEXT)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") + TYPICAL_LIBRARIES
