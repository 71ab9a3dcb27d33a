"""Mixed precision: trained weights are float32, and matrix products are computed in the compute type (``model.dtype``).

In bfloat16 a weight of 1 can only change by steps of 2⁻⁸, so that updates at usual learning rates are lost to rounding. Therefore the
weights that are trained, their gradients and AdamW's moments are float32. Inside ``autocast`` torch casts weights and activations to the
compute type for matrix products and attention. Sums (norms, softmax, losses, the residual stream) stay in float32. Frozen weights (the
reference model, the model under adapters) are kept in the compute type, because nothing is added to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from rewardkit.errors import RewardkitError
from rewardkit.train.config import ModelConfig
from rewardkit.train.distributed import fsdp


class NonFiniteError(RewardkitError):
    """A loss, a gradient or a weight is infinite or NaN, so that training can't continue."""


def resolve_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """Return the compute type: the configured one, or by default bfloat16 on a GPU that supports it and else float32."""
    if config.dtype != "auto":
        return getattr(torch, config.dtype)  # type: ignore[no-any-return]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def allow_tf32(config: ModelConfig) -> None:
    """Allow TF32 for float32 matrix products on NVIDIA GPUs in the whole process, if it is configured."""
    if config.tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def autocast(device: torch.device, compute_dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context in which matrix products are computed in a data type.

    Autocast keeps the cast weights until its outermost context ends, so one context must not contain an optimizer step.
    """
    return nullcontext() if compute_dtype == torch.float32 else _autocast(device, compute_dtype)


@contextmanager
def _autocast(device: torch.device, compute_dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast(device.type, compute_dtype):
        yield


def cast_trained(model: Any) -> None:
    """Cast the trainable parameters of a model to float32 in place."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def freeze(model: Any, compute_dtype: torch.dtype) -> None:
    """Freeze a model, and cast its parameters to the compute type in place.

    Parameters that transformers always keeps in float32 stay as they are, as do buffers, such as rotary frequencies.
    """
    kept = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(requires_grad=False)
        if parameter.dtype == torch.float32 and not set(name.split(".")) & set(kept):
            parameter.data = parameter.data.to(compute_dtype)


def cast_state(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a state dict with its floating-point tensors cast to a data type, on the CPU. Tied weights stay one tensor."""
    found: dict[int, torch.Tensor] = {}
    for tensor in state.values():
        if id(tensor) not in found:
            own = tensor.detach()
            found[id(tensor)] = own.to("cpu", dtype if own.is_floating_point() else own.dtype)
    return {name: found[id(tensor)] for name, tensor in state.items()}


def find_non_finite(parameters: Mapping[str, nn.Parameter]) -> str | None:
    """Return the name of a parameter that holds an infinity or NaN in this process, or None."""
    local = {name: fsdp.local_tensor(value.detach()) for name, value in parameters.items()}
    floating = {name: value for name, value in local.items() if value.is_floating_point() and value.numel()}
    if not floating or math.isfinite(float(nn.utils.get_total_norm(floating.values(), math.inf))):
        return None
    return next((name for name, value in floating.items() if not bool(torch.isfinite(value).all())), None)
