"""Log-probabilities of tokens, computed in tiles so that the logits never exist as a whole.

With a large vocabulary most of the memory of a step goes to the logits: 2,048 tokens × 150,000 words in float32 are 1.2 GB, and
autograd keeps several of them. Here only one tile of tokens × words exists at a time, also in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TOKENS = 512
WORDS = 4096
PLAIN_LOGITS = 4 * TOKENS * WORDS
"""Up to this number of logits torch's own operations are faster."""


@dataclass(frozen=True, slots=True)
class LogitScaling:
    """The function that a model applies to the product of hidden states and output embedding: ``cap·tanh(scale·x/cap)``."""

    scale: float = 1.0
    """Cohere's ``logit_scale``, the inverse of Granite's ``logits_scaling``, Falcon-H1's ``lm_head_multiplier``."""
    cap: float | None = None
    """Gemma's ``final_logit_softcapping``."""

    def apply(self, product: Tensor) -> Tensor:
        """Return the logits of a product, in float32."""
        logits = product.float() * self.scale if self.scale != 1 else product.float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def derivative(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the logits by the product, at given logits."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap).square())


NO_SCALING = LogitScaling()


def token_logprobs(
    hidden_N_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float = 1.0,
    compute_dtype: torch.dtype | None = None,
    scaling: LogitScaling = NO_SCALING,
) -> tuple[Tensor, Tensor]:
    """Compute ``log softmax(scaling(h·Wᵀ + b)/temperature)`` at each target, and the entropy of each distribution.

    Args:
        hidden_N_H: The last hidden state where each target is predicted.
        weight_V_H: The output embedding.
        bias_V: Its bias, if there is one.
        targets_N: Token ids.
        temperature: Divides the logits.
        compute_dtype: The data type of the products; by default that of the hidden states. Gradients are summed in float32.
        scaling: What the model does to the products.

    Returns:
        Log-probabilities in float32 with gradient, (N,); entropies in nats without gradient, (N,).
    """
    dtype = compute_dtype or hidden_N_H.dtype
    if hidden_N_H.shape[0] * weight_V_H.shape[0] <= PLAIN_LOGITS:
        bias = None if bias_V is None else bias_V.to(dtype)
        logits_N_V = torch.nn.functional.linear(hidden_N_H.to(dtype), weight_V_H.to(dtype), bias)
        return plain_logprobs(scaling.apply(logits_N_V), targets_N, temperature)
    result: tuple[Tensor, Tensor] = _Tiled.apply(hidden_N_H, weight_V_H, bias_V, targets_N, temperature, dtype, scaling)  # type: ignore[no-untyped-call]
    return result


def plain_logprobs(logits_N_V: Tensor, targets_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute the same from given logits."""
    logprobs_N_V = (logits_N_V.float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_N_V.exp() * logprobs_N_V.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
    return logprobs_N_V.gather(-1, targets_N[:, None]).squeeze(-1), entropy_N


class _Tiled(torch.autograd.Function):
    """Online log-sum-exp over tiles. The backward pass computes each tile again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_N_H: Tensor,
        weight_V_H: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        temperature: float,
        dtype: torch.dtype,
        scaling: LogitScaling,
    ) -> tuple[Tensor, Tensor]:
        ctx.input_dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden_N_H, weight_V_H, bias_V)]
        hidden_N_H, weight_V_H = hidden_N_H.to(dtype), weight_V_H.to(dtype)
        bias_V = None if bias_V is None else bias_V.to(dtype)
        logsumexp_N = hidden_N_H.new_empty(len(hidden_N_H), dtype=torch.float32)
        entropy_N = torch.empty_like(logsumexp_N)
        chosen_N = torch.empty_like(logsumexp_N)
        for start in range(0, len(hidden_N_H), TOKENS):
            rows = slice(start, start + TOKENS)
            highest = hidden_N_H.new_full((len(hidden_N_H[rows]),), -torch.inf, dtype=torch.float32)
            total = torch.zeros_like(highest)
            weighted = torch.zeros_like(highest)  # Σ exp(z − highest)·z
            chosen = torch.zeros_like(highest)
            for first in range(0, len(weight_V_H), WORDS):
                logits = _tile(hidden_N_H[rows], weight_V_H, bias_V, first, temperature, scaling)
                new_highest = torch.maximum(highest, logits.amax(-1))
                shrink = (highest - new_highest).exp()
                masses = (logits - new_highest[:, None]).exp()
                total = total * shrink + masses.sum(-1)
                weighted = weighted * shrink + (masses * logits).sum(-1)
                highest = new_highest
                local = targets_N[rows] - first
                inside = (local >= 0) & (local < logits.shape[1])
                picked = logits.gather(-1, local.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(-1)
                chosen = torch.where(inside, picked, chosen)
            logsumexp_N[rows] = highest + total.log()
            entropy_N[rows] = logsumexp_N[rows] - weighted / total
            chosen_N[rows] = chosen
        ctx.save_for_backward(hidden_N_H, weight_V_H, bias_V, targets_N, logsumexp_N)
        ctx.temperature, ctx.scaling = temperature, scaling
        ctx.mark_non_differentiable(entropy_N)
        return chosen_N - logsumexp_N, entropy_N

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, gradient_N: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden_N_H, weight_V_H, bias_V, targets_N, logsumexp_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        scaled_N = gradient_N / ctx.temperature
        # Sums over tiles are float32: in bfloat16 each addition would round.
        hidden_gradient = torch.zeros_like(hidden_N_H, dtype=torch.float32) if needs_hidden else None
        weight_gradient = torch.zeros_like(weight_V_H, dtype=torch.float32) if needs_weight else None
        bias_gradient = torch.zeros_like(bias_V, dtype=torch.float32) if needs_bias else None
        for start in range(0, len(hidden_N_H), TOKENS):
            rows = slice(start, start + TOKENS)
            for first in range(0, len(weight_V_H), WORDS):
                words = slice(first, first + WORDS)
                logits = _tile(hidden_N_H[rows], weight_V_H, bias_V, first, ctx.temperature, ctx.scaling)
                tile = (logits - logsumexp_N[rows, None]).exp_().mul_(-scaled_N[rows, None])
                local = targets_N[rows] - first
                inside = ((local >= 0) & (local < tile.shape[1])).nonzero().squeeze(-1)
                tile[inside, local[inside]] += scaled_N[rows][inside]
                if ctx.scaling != NO_SCALING:
                    tile.mul_(ctx.scaling.derivative(logits * ctx.temperature))
                typed = tile.to(hidden_N_H.dtype)
                if hidden_gradient is not None:
                    _add_product(hidden_gradient[rows], typed, weight_V_H[words])
                if weight_gradient is not None:
                    _add_product(weight_gradient[words], typed.t(), hidden_N_H[rows])
                if bias_gradient is not None:
                    bias_gradient[words] += tile.sum(0)
        gradients = (
            None if gradient is None else gradient.to(dtype)
            for gradient, dtype in zip((hidden_gradient, weight_gradient, bias_gradient), ctx.input_dtypes, strict=True)
        )
        return (*gradients, None, None, None, None)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a matrix product to a float32 total in place."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _tile(
    hidden: Tensor, weight_V_H: Tensor, bias_V: Tensor | None, first: int, temperature: float, scaling: LogitScaling
) -> Tensor:
    words = slice(first, first + WORDS)
    bias = None if bias_V is None else bias_V[words]
    return scaling.apply(torch.nn.functional.linear(hidden, weight_V_H[words], bias)) / temperature
