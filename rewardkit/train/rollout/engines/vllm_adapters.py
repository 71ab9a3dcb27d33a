"""Adapters for vLLM: whether vLLM can serve those of a policy, and how they get there without the rest of the weights.

vLLM computes with base weights and adapters apart, as training does, so nothing is merged or rounded. Where vLLM can't, the engine
takes over merged weights instead, one layer at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from rewardkit.train.distributed import fsdp
from rewardkit.train.models.policy import Policy

NAME, NUMBER = "policy", 1
"""How vLLM calls the adapters. They keep these when they change."""
MEMORY = Path("/dev/shm")  # noqa: S108 - in memory, in a folder of our own


def merge_reason(policy: Policy) -> str:
    """Return why vLLM can't serve the adapters of a policy, so that they have to be merged; empty if it can.

    Args:
        policy: A policy with adapters.
    """
    from peft.tuners.lora import Linear
    from vllm import ModelRegistry
    from vllm.model_executor.models.interfaces import supports_lora

    (architecture,) = policy.lm.config.architectures or [type(policy.lm).__name__]
    known = ModelRegistry.models.get(architecture)
    if known is None or not supports_lora(known.load_model_cls()):
        return f"vLLM does not serve adapters of {architecture}"
    ends = [policy.lm.get_input_embeddings(), policy.lm.get_output_embeddings()]
    for name, module in policy.lm.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        if type(module) is not Linear:
            return f"vLLM does not serve adapters of {name} ({type(module).__name__})"
        if any(module is end for end in ends):
            return f"the adapters of {name} belong to the embeddings or the head"
    if policy.model.peft_config["default"].r > max(_ranks()):
        return f"vLLM serves adapters up to rank {max(_ranks())}"
    return ""


def adapter_arguments(policy: Policy) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` that make room for the adapters of a policy."""
    rank = policy.model.peft_config["default"].r
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_cpu_loras": 1,
        "max_lora_rank": min(size for size in _ranks() if size >= rank),
    }


@contextmanager
def written_adapters(policy: Policy) -> Iterator[Path]:
    """Write the adapters of a policy to a folder as peft does, in shared memory where there is some, and remove it afterwards.

    The adapters of a sharded model are gathered, so all processes must enter this at the same time.

    Args:
        policy: The policy.

    Yields:
        The folder.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    own = {
        name: fsdp.full_tensor(value.detach()).cpu().clone(memory_format=torch.contiguous_format)
        for name, value in policy.model.state_dict().items()
        if ".lora_" in name
    }
    with tempfile.TemporaryDirectory(prefix="rewardkit-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        save_file(get_peft_model_state_dict(policy.model, state_dict=own), Path(folder, "adapter_model.safetensors"))
        policy.model.peft_config["default"].save_pretrained(folder)
        yield Path(folder)


def request(folder: Path | None = None) -> Any:
    """Return vLLM's name for the adapters, with the folder to load them from if they have changed."""
    from vllm.lora.request import LoRARequest

    # Without a folder vLLM must have them already: it then looks for none, and for this name it would find none.
    path = NAME if folder is None else str(folder)
    return LoRARequest(NAME, NUMBER, path, load_inplace=folder is not None)


def _ranks() -> tuple[int, ...]:
    """Return the ranks that vLLM makes room for."""
    from vllm.config.lora import MaxLoRARanks

    return get_args(MaxLoRARanks)
