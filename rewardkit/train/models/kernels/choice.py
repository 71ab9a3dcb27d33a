"""Which kernel does the arithmetic on tiles of logits. Another one than torch's has to prove first that it computes the same."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from rewardkit.errors import ConfigError, Location
from rewardkit.train.models.kernels.tiles import TORCH_TILES, LogitScaling, TileKernel
from rewardkit.train.models.logprobs import WORDS, tiled_logprobs

KEY = "model.logprob_kernel: triton"
PROBES = 16
LARGEST_LOGIT = 20.0
"""The size of the logits that kernels are compared on: some tokens are almost certain, as in a trained model."""
SLICE = 3 * WORDS + 5
"""The words of the head that its own gradient is compared on: several tiles, the last of which is small."""
TOLERANCE = 1e-4
"""The largest difference of a log-probability or entropy, in nats."""
GRADIENT_TOLERANCE = 1e-3
"""The largest norm of the difference of gradients, relative to their norm: single roundings of bfloat16 may differ."""


def chosen_kernel(
    name: str,
    head: nn.Linear | None,
    scaling: LogitScaling,
    dtype: torch.dtype,
    device: torch.device,
    location: Location | None = None,
) -> TileKernel:
    """Return the kernel of a run, after a comparison with torch's own operations on a few tokens of the model's head.

    Args:
        name: The value of ``model.logprob_kernel``: torch or triton.
        head: The output embedding; None if the model's own forward makes the logits.
        scaling: What the model does to the products.
        dtype: The data type of the products.
        device: Where the logits are computed.
        location: The place of the model in the configuration, for messages.

    Raises:
        ConfigError: The kernel can't run here, or does not compute the same as torch.
    """
    if name == "torch":
        return TORCH_TILES
    if head is None:
        raise ConfigError(
            (location, f"{KEY}: this model's own forward makes its logits, so the kernel has no use; remove it")
        )
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(
            (location, f"{KEY} runs on GPUs, and this process computes on the device {device.type}; remove it")
        )
    from rewardkit.train.models.kernels.triton_tiles import TRITON_TILES

    try:
        problem = find_difference(TRITON_TILES, head, scaling, dtype)
    except Exception as error:  # Triton and its drivers have no exceptions of their own
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError((location, f"{KEY} fails on this device: {line}; remove it")) from error
    if problem is not None:
        raise ConfigError((location, f"{KEY} does not compute what torch computes: {problem}; remove it"))
    return TRITON_TILES


def find_difference(kernel: TileKernel, head: nn.Linear, scaling: LogitScaling, dtype: torch.dtype) -> str | None:
    """Compare a kernel with torch's own operations on the model's head, in both kinds of backward passes.

    The whole head is compared frozen, and a part of it trained, whose gradients would be too large otherwise.

    Args:
        kernel: The kernel.
        head: The output embedding.
        scaling: What the model does to the products.
        dtype: The data type of the products.

    Returns:
        What differs by more than the tolerance, with both numbers; None if nothing does.
    """
    for is_trained, words in ((False, head.out_features), (True, min(head.out_features, SLICE))):
        weight_W_H = head.weight.detach()[:words]
        bias_W = None if head.bias is None else head.bias.detach()[:words]
        hidden_N_H = _probes(weight_W_H, scaling)
        expected, found = (
            _results(one, hidden_N_H, weight_W_H, bias_W, scaling, dtype, is_trained=is_trained)
            for one in (TORCH_TILES, kernel)
        )
        names = [
            "log-probability",
            "entropy",
            "gradient of hidden states",
            "gradient of the head",
            "gradient of its bias",
        ]
        for name, one, other in zip(names, found, expected, strict=False):
            if name.startswith("gradient"):
                norm = float(other.norm())
                difference = float((one - other).norm())
                if not difference <= GRADIENT_TOLERANCE * norm:  # NaN differs, too
                    return f"the {name} differs by a norm of {difference:.3g}, of {norm:.3g}"
                continue
            place = int((one - other).abs().nan_to_num(torch.inf).argmax())
            if not float((one - other).abs().max()) <= TOLERANCE:
                return f"the {name} of a token is {float(one[place]):.6g} instead of {float(other[place]):.6g}"
    return None


@torch.no_grad()
def _probes(weight_V_H: Tensor, scaling: LogitScaling) -> Tensor:
    """Return hidden states whose largest logit before any cap is ``LARGEST_LOGIT``. Shape: (PROBES, H)."""
    generator = torch.Generator().manual_seed(0)
    hidden_N_H = torch.randn(PROBES, weight_V_H.shape[1], generator=generator).to(weight_V_H)
    largest = float((hidden_N_H @ weight_V_H.t()).abs().max()) * scaling.scale
    return hidden_N_H * (LARGEST_LOGIT / largest) if largest > 0 else hidden_N_H


def _results(
    kernel: TileKernel,
    hidden_N_H: Tensor,
    weight_W_H: Tensor,
    bias_W: Tensor | None,
    scaling: LogitScaling,
    dtype: torch.dtype,
    *,
    is_trained: bool,
) -> list[Tensor]:
    """Return log-probabilities, entropies and gradients. Every other target is the likeliest word."""
    targets_N = (hidden_N_H @ weight_W_H.t()).argmax(-1)
    targets_N[::2] = torch.arange(0, PROBES, 2, device=targets_N.device) * (len(weight_W_H) - 1) // PROBES
    hidden_N_H = hidden_N_H.clone().requires_grad_()
    trained = [hidden_N_H]
    if is_trained:
        weight_W_H = weight_W_H.float().clone().requires_grad_()
        trained.append(weight_W_H)
        if bias_W is not None:
            bias_W = bias_W.float().clone().requires_grad_()
            trained.append(bias_W)
    with torch.enable_grad():
        found = tiled_logprobs(
            hidden_N_H, weight_W_H, bias_W, targets_N, 0.9, dtype, scaling, memory_mb=1, kernel=kernel
        )
        pull_N = torch.linspace(-1, 1, PROBES, device=targets_N.device)
        gradients = torch.autograd.grad((found[0] * pull_N).sum(), trained)
    return [value.detach().float() for value in (*found, *gradients)]
