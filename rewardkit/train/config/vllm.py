"""Settings of the rollout engine ``vllm``. Needs neither vLLM nor torch."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from rewardkit.rollout_engine import Sampling
from rewardkit.train.config.base import Count, Positive, Section


class VllmParams(Section):
    """How vLLM runs in the trainer's process. Each of several training processes runs its own vLLM."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The data type of vLLM's weights. auto uses that of the trained model."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The share of a GPU's memory that vLLM uses for weights and KV cache. The trainer needs the rest. Ignored on a CPU."""
    kv_cache_gib: Positive | None = None
    """The size of the KV cache. The default is what gpu_memory_utilization leaves, and on a CPU enough for rollout.batch completions."""
    max_model_len: Count | None = None
    """The most tokens of a prompt with its completion. The default is what the data need."""
    block_size: Count | None = None
    """The number of tokens in a block of the KV cache. The default is vLLM's choice, and 32 on a CPU."""
    prefix_caching: bool = True
    """Process each prompt once for all completions of its group. The cache is cleared when weights change."""
    enforce_eager: bool | None = None
    """Do not compile or capture CUDA graphs. The default is true on a CPU and false on a GPU."""
    tensor_parallel_size: Count = 1
    """The number of GPUs that share vLLM's weights. With more than one, weights are passed through a file in memory, and only one
    training process is allowed."""
    adapters: Literal["auto", "merge"] = "auto"
    """With model.lora: auto sends only the adapters after an update, and vLLM applies them beside its own base weights, if vLLM supports
    that for the model; merge (and auto elsewhere) sends weights with the adapters merged, one layer at a time."""
    sleep_level: Literal[0, 1, 2] = 0
    """The GPU memory that is freed during updates: 0 none · 1 the KV cache, and weights move to the CPU · 2 KV cache and weights."""
    timeout_s: Positive = 300.0
    """The longest time in seconds that vLLM may take for a step of sampling, after which the run ends with an error."""
    load_timeout_s: Positive = 1800.0
    """The longest time in seconds that vLLM may take to start, including downloads and compilation."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vllm.LLM, passed unchanged."""


ONE_GPU_EACH = "with several training processes, each runs its own vLLM on one GPU: set tensor_parallel_size to 1, or start one process"


def refuse(params: VllmParams, sampling: Sampling) -> str:
    """Return why vLLM can't sample with these settings and correct log-probs; empty if it can."""
    if params.tensor_parallel_size > 1 and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        return ONE_GPU_EACH
    if sampling.is_truncated and sampling.temperature not in {0.0, 1.0}:
        return (
            "with top_p or top_k vLLM reports log-probs at temperature 1 or after the cut, but not before the cut at temperature "
            f"{sampling.temperature:g}; use temperature 1, or no top_p and top_k, or engine: hf"
        )
    return ""
