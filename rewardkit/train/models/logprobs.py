"""Log-probabilities of tokens, computed in tiles so that the logits never exist as a whole.

With a large vocabulary most of the memory of a step goes to the logits: 2,048 tokens × 150,000 words in float32 are 1.2 GB, and
autograd keeps several of them. Here only one tile of tokens × words exists at a time, also in the backward pass.

The backward pass needs the logits again. There are three cases:

- The output embedding is frozen, as with adapters: the gradient of a hidden state is ``(W[target] − Σ p·W)·g``. The forward pass sums
  ``Σ p·W`` over the tiles, and the backward pass needs no logits.
- The logits, or those of some of the tokens, fit in the memory budget: they are kept.
- The backward pass computes the others again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rewardkit.train.models.kernels.tiles import (
    NO_SCALING,
    TORCH_TILES,
    LogitMap,
    LogitScaling,
    RowSums,
    TileKernel,
)

TOKENS = 512
WORDS = 4096
"""The size of a tile on a CPU: it fits in the cache of a core."""
PLAIN_LOGITS = 4 * TOKENS * WORDS
"""Up to this number of logits torch's own operations are faster."""
CPU_MEMORY_MB = 512
GPU_MEMORY_MB = 1024
"""The default memory of logits. On a GPU it makes the tiles large, because each operation has a cost of its own there."""


@dataclass(frozen=True, slots=True)
class TileSize:
    """How the logits are divided, and how many of them are kept for the backward pass."""

    tokens: int
    words: int
    kept_logits: int

    @classmethod
    def fitting(cls, memory_mb: int | None, device: torch.device, words: int) -> TileSize:
        """Return the size that fits a budget.

        Args:
            memory_mb: The memory of logits in MB, the temporary tensors of a tile included. None takes the default of the device.
            device: Where the logits are computed. A tile on a CPU is never larger than its cache.
            words: The size of the vocabulary.
        """
        is_cpu = device.type == "cpu"
        logits = (memory_mb or (CPU_MEMORY_MB if is_cpu else GPU_MEMORY_MB)) * 2**20 // 4
        if is_cpu:
            return cls(TOKENS, WORDS, logits)
        # A quarter for a tile and its temporary tensors, so that the rest can hold kept logits.
        tile = max(logits // 4 // TEMPORARY, WORDS)
        tokens = max(min(tile // WORDS, 16 * TOKENS), 1)
        return cls(tokens, max(min(tile // tokens, words), 1), logits - logits // 4)


TEMPORARY = 3
"""Tensors of a tile's size that exist at once: logits, probabilities, and their product."""


def token_logprobs(
    hidden_N_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float = 1.0,
    compute_dtype: torch.dtype | None = None,
    scaling: LogitScaling = NO_SCALING,
    memory_mb: int | None = None,
    *,
    add_to_grad: bool = False,
    kernel: TileKernel = TORCH_TILES,
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
        memory_mb: The memory that logits may take, in MB; by default what suits the device.
        add_to_grad: Add the gradient of the output embedding to its ``grad`` in the backward pass, instead of returning it to autograd.
            This saves a tensor of the embedding's size, and another one if it is tied. It needs a parameter in float32, and
            ``backward()``: ``torch.autograd.grad`` would not return this gradient.
        kernel: Does the arithmetic on a tile. Few logits are computed by torch, whatever the kernel.

    Returns:
        Log-probabilities in float32 with gradient, (N,); entropies in nats without gradient, (N,).
    """
    dtype = compute_dtype or hidden_N_H.dtype
    adds = add_to_grad and weight_V_H.is_leaf and weight_V_H.dtype == torch.float32
    # Of a large embedding autograd would make a gradient for each micro-batch, however few tokens it has.
    is_large = adds and weight_V_H.requires_grad and weight_V_H.numel() > PLAIN_LOGITS
    if hidden_N_H.shape[0] * weight_V_H.shape[0] <= PLAIN_LOGITS and not is_large:
        bias = None if bias_V is None else bias_V.to(dtype)
        logits_N_V = torch.nn.functional.linear(hidden_N_H.to(dtype), weight_V_H.to(dtype), bias)
        return plain_logprobs(scaling.apply(logits_N_V), targets_N, temperature)
    return tiled_logprobs(
        hidden_N_H,
        weight_V_H,
        bias_V,
        targets_N,
        temperature,
        dtype,
        scaling,
        memory_mb=memory_mb,
        add_to_grad=adds,
        kernel=kernel,
    )


def tiled_logprobs(
    hidden_N_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float,
    dtype: torch.dtype,
    scaling: LogitScaling = NO_SCALING,
    *,
    memory_mb: int | None = None,
    add_to_grad: bool = False,
    kernel: TileKernel = TORCH_TILES,
) -> tuple[Tensor, Tensor]:
    """Compute what ``token_logprobs`` computes, in tiles however few logits there are."""
    tile = TileSize.fitting(memory_mb, hidden_N_H.device, len(weight_V_H))
    call = _Call(LogitMap(scaling, temperature), dtype, tile, kernel, add_to_grad=add_to_grad)
    result: tuple[Tensor, Tensor] = _Tiled.apply(  # type: ignore[no-untyped-call]
        hidden_N_H, weight_V_H, bias_V, targets_N, call, torch.is_grad_enabled()
    )
    return result


def plain_logprobs(logits_N_V: Tensor, targets_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute the same from given logits."""
    logprobs_N_V = (logits_N_V.float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_N_V.exp() * logprobs_N_V.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
    return logprobs_N_V.gather(-1, targets_N[:, None]).squeeze(-1), entropy_N


def next_logits(hidden_B_H: Tensor, weight_V_H: Tensor, bias_V: Tensor | None) -> Tensor:
    """Compute the product of hidden states and output embedding, before any scaling. For passes without gradient.

    On a CPU a product with a large vocabulary is faster in tiles, whose part of the embedding is still in the cache when it is multiplied.
    """
    words = len(weight_V_H)
    is_plain = hidden_B_H.dtype == weight_V_H.dtype and not torch.is_autocast_enabled(hidden_B_H.device.type)
    if hidden_B_H.device.type != "cpu" or not is_plain or words <= WORDS:
        return torch.nn.functional.linear(hidden_B_H, weight_V_H, bias_V)
    found_B_V = hidden_B_H.new_empty(len(hidden_B_H), words)
    for part in _blocks(words, WORDS // 4):
        found_B_V[:, part] = torch.nn.functional.linear(
            hidden_B_H, weight_V_H[part], None if bias_V is None else bias_V[part]
        )
    return found_B_V


@dataclass(frozen=True, slots=True)
class _Call:
    """The settings of a call."""

    logit_map: LogitMap
    dtype: torch.dtype
    tile: TileSize
    kernel: TileKernel
    add_to_grad: bool


class _Tiled(torch.autograd.Function):
    """Online log-sum-exp over tiles."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_N_H: Tensor,
        weight_V_H: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        call: _Call,
        has_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        inputs = (hidden_N_H, weight_V_H, bias_V)
        needs_hidden, needs_weight, needs_bias = (
            has_gradient and tensor is not None and tensor.requires_grad for tensor in inputs
        )
        ctx.input_dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        ctx.call = call
        ctx.parameter = weight_V_H if call.add_to_grad else None
        hidden_N_H, weight_V_H = hidden_N_H.to(call.dtype), weight_V_H.to(call.dtype)
        bias_V = None if bias_V is None else bias_V.to(call.dtype)
        words = len(weight_V_H)
        needs_logits = needs_weight or needs_bias
        kept_rows = min(call.tile.kept_logits // words, len(hidden_N_H)) if needs_logits else 0
        kept_K_V = hidden_N_H.new_empty(kept_rows, words)
        others_N_H = torch.zeros_like(hidden_N_H, dtype=torch.float32) if needs_hidden and not needs_logits else None
        logsumexp_N = hidden_N_H.new_empty(len(hidden_N_H), dtype=torch.float32)
        rest_N, entropy_N, chosen_N = (torch.empty_like(logsumexp_N) for _ in range(3))
        for rows in _blocks(len(hidden_N_H), call.tile.tokens, kept_rows):
            found = _forward_block(
                hidden_N_H[rows],
                weight_V_H,
                bias_V,
                targets_N[rows],
                call,
                kept_K_V[rows] if rows.stop <= kept_rows else None,
                None if others_N_H is None else others_N_H[rows],
            )
            chosen_N[rows], logsumexp_N[rows], entropy_N[rows], rest_N[rows] = found
        kept = others_N_H if others_N_H is not None else kept_K_V
        ctx.save_for_backward(hidden_N_H, weight_V_H, bias_V, targets_N, logsumexp_N, chosen_N, rest_N, kept)
        ctx.needs_logits = needs_logits
        ctx.mark_non_differentiable(entropy_N)
        return chosen_N - logsumexp_N, entropy_N

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, gradient_N: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden_N_H, weight_V_H, bias_V, targets_N, logsumexp_N, chosen_N, rest_N, kept = ctx.saved_tensors
        call: _Call = ctx.call
        scaled_N = gradient_N / call.logit_map.temperature
        if not ctx.needs_logits:
            pull_N = scaled_N * rest_N * call.logit_map.derivative(chosen_N)
            own_N_H = weight_V_H[targets_N].float() * pull_N[:, None]
            only_gradient: Tensor = own_N_H.addcmul_(kept, scaled_N[:, None], value=-1)
            return only_gradient.to(ctx.input_dtypes[0]), None, None, None, None, None
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        # Sums over tiles are float32: in bfloat16 each addition would round.
        hidden_gradient = torch.zeros_like(hidden_N_H, dtype=torch.float32) if needs_hidden else None
        weight_gradient = _sum_of(ctx.parameter, weight_V_H) if needs_weight else None
        bias_gradient = torch.zeros_like(bias_V, dtype=torch.float32) if needs_bias else None
        others_N, own_N = -scaled_N, scaled_N * rest_N
        for rows in _blocks(len(hidden_N_H), call.tile.tokens, len(kept)):
            for words in _blocks(len(weight_V_H), call.tile.words):
                if rows.stop <= len(kept):
                    product = kept[rows, words]
                else:
                    bias = None if bias_V is None else bias_V[words]
                    product = torch.nn.functional.linear(hidden_N_H[rows], weight_V_H[words], bias)
                tile = call.kernel.gradient_tile(
                    product,
                    targets_N[rows],
                    words.start,
                    logsumexp_N[rows],
                    others_N[rows],
                    own_N[rows],
                    call.logit_map,
                )
                if hidden_gradient is not None:
                    _add_product(hidden_gradient[rows], tile, weight_V_H[words])
                if weight_gradient is not None:
                    _add_product(weight_gradient[words], tile.t(), hidden_N_H[rows])
                if bias_gradient is not None:
                    bias_gradient[words] += tile.sum(0, dtype=torch.float32)
        if ctx.parameter is not None:
            weight_gradient = None  # it has been added
        gradients = (
            None if gradient is None else gradient.to(dtype)
            for gradient, dtype in zip((hidden_gradient, weight_gradient, bias_gradient), ctx.input_dtypes, strict=True)
        )
        return (*gradients, None, None, None)


def _forward_block(
    hidden_R_H: Tensor,
    weight_V_H: Tensor,
    bias_V: Tensor | None,
    targets_R: Tensor,
    call: _Call,
    kept_R_V: Tensor | None,
    others_R_H: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go through the vocabulary for some tokens.

    Args:
        hidden_R_H: The hidden states of the tokens.
        weight_V_H: The output embedding.
        bias_V: Its bias, if there is one.
        targets_R: Token ids.
        call: The settings.
        kept_R_V: Where products are written for the backward pass, if they are kept.
        others_R_H: Where ``Σ p·W`` over the words other than the target is written, if it is needed.

    Returns:
        The logit of each target, the log-sum-exp, the entropy, and ``1 − p`` of each target, which is exact where p is near 1.
        Shapes: (R,).
    """
    sums = RowSums.empty(hidden_R_H)
    for words in _blocks(len(weight_V_H), call.tile.words):
        bias = None if bias_V is None else bias_V[words]
        product = torch.nn.functional.linear(hidden_R_H, weight_V_H[words], bias)
        if kept_R_V is not None:
            kept_R_V[:, words] = product
        found = call.kernel.add_tile(
            sums, product, targets_R, words.start, call.logit_map, masses=others_R_H is not None
        )
        if others_R_H is not None and found is not None:
            shrink, masses = found
            others_R_H.mul_(shrink[:, None])
            _add_product(others_R_H, masses, weight_V_H[words])
    chosen, highest = sums.chosen_R, sums.highest_R
    own = (chosen - highest).exp()
    total = sums.rest_R + own
    logsumexp = highest + total.log()
    if others_R_H is not None:
        others_R_H.div_(total[:, None])
    return chosen, logsumexp, logsumexp - (sums.weighted_R + own * chosen) / total, sums.rest_R / total


def _blocks(length: int, size: int, border: int = 0) -> list[slice]:
    """Divide a length into blocks, none of which crosses a border."""
    starts = sorted({*range(0, border, size), *range(border, length, size)})
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], length], strict=True)]


def _sum_of(parameter: Tensor | None, weight_V_H: Tensor) -> Tensor:
    """Return the float32 tensor that the gradient of the output embedding is added to: the parameter's own, or a new one."""
    if parameter is None:
        return torch.zeros_like(weight_V_H, dtype=torch.float32)
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _add_product(total: Tensor, tile: Tensor, other: Tensor) -> None:
    """Add the product of a tile and a matrix to a float32 total in place. The tile is float32, or on a GPU of the matrix's type.

    In bfloat16 a GPU multiplies in bfloat16 and sums in float32. On a CPU, where torch would round each product to bfloat16, it is
    multiplied in float32.
    """
    if other.dtype == total.dtype:
        total.addmm_(tile, other)
    elif total.device.type == "cuda":
        total.add_(torch.mm(tile.to(other.dtype), other, out_dtype=torch.float32))
    else:
        total.addmm_(tile, other.float())
