"""What may be said about the engine ``vllm`` in YAML. Needs neither vLLM nor torch."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from rewardkit.rollout_engine import Sampling
from rewardkit.train.config.base import Count, Positive, Section


class VllmParams(Section):
    """How vLLM runs beside the trainer, in the same process; of several training processes in each."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the sampler's weights; auto: that of the trained ones."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of a GPU's memory that vLLM takes, weights and cache together; the trainer needs the rest. Not used on a CPU."""
    kv_cache_gib: Positive | None = None
    """Size of the cache; by default what gpu_memory_utilization leaves, and on a CPU enough for rollout.batch completions."""
    max_model_len: Count | None = None
    """Most tokens of a prompt with its completion; by default what the data need."""
    block_size: Count | None = None
    """Tokens in a block of the cache; by default vLLM's choice, on a CPU 32."""
    prefix_caching: bool = True
    """Read a prompt once for all completions of its group. The cache is emptied whenever weights change."""
    enforce_eager: bool | None = None
    """Neither compile nor capture CUDA graphs; by default so on a CPU and not on a GPU."""
    tensor_parallel_size: Count = 1
    """How many GPUs share the sampler's weights. More than one: weights are handed over through a file in memory, and there must be
    only one training process."""
    sleep_level: Literal[0, 1, 2] = 0
    """What a GPU's memory is freed of while the trainer works: 0 nothing · 1 the cache, and weights move to the CPU · 2 both."""
    timeout_s: Positive = 300.0
    """Longest time without a sign of life, after which the run ends with an error."""
    load_timeout_s: Positive = 1800.0
    """Longest time that starting may take: downloading and compiling are part of it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vllm.LLM, handed on as they are."""


ONE_GPU_EACH = (
    "each of several training processes samples with a vLLM of its own on one GPU: set tensor_parallel_size to 1, "
    "or start one process"
)


def refuse(params: VllmParams, sampling: Sampling) -> str:
    """What can't be sampled, or not with right log-probs; an empty text if nothing."""
    if params.tensor_parallel_size > 1 and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        return ONE_GPU_EACH
    if sampling.is_truncated and sampling.temperature not in {0.0, 1.0}:
        return (
            "with top_p or top_k vLLM reports log-probs at temperature 1 or after the cut, but not before the cut at temperature "
            f"{sampling.temperature:g}; use temperature 1, or no top_p and top_k, or engine: hf"
        )
    return ""
