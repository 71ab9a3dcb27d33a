"""The arithmetic on a tile of logits by Triton: it is read once or twice, where torch's own operations read it several times.

Two kernels, for the forward and the backward pass. All arithmetic is float32, whatever the type of the product. A kernel runs on GPUs,
and with ``TRITON_INTERPRET=1`` (set before Triton is imported) on a CPU, slowly, for tests.

Liger-Kernel's fused linear cross-entropy is no replacement. Per token it gives no entropy, and it always makes the logits a second time
for gradients; its variant with entropy knows no biases and caps, and except on one kind of GPU sums the head's gradient in bfloat16.
"""

# Triton compiles the kernels from their source, in which it allows no annotations but its own.
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,unused-ignore"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rewardkit.train.models.kernels.tiles import LogitMap, RowSums

BLOCK = 4096
"""The most words of a row that a program holds in registers."""
WARPS = 8


@triton.jit
def _logits(product, scale, cap, temperature, HAS_CAP: tl.constexpr):
    """Return logits at the temperature, in float32."""
    found = product.to(tl.float32) * scale
    if HAS_CAP:  # tanh(x) = 1 − 2/(exp(2x) + 1), which also holds where exp overflows
        found = cap * (1.0 - 2.0 / (tl.exp(2.0 * found / cap) + 1.0))
    return found / temperature


@triton.jit
def _derivative(logits, scale, cap, temperature, HAS_CAP: tl.constexpr):
    """Return the derivative of the logits at the temperature 1 by the product."""
    if HAS_CAP:
        share = logits * temperature / cap
        return scale * (1.0 - share * share)
    else:  # noqa: RET505 - a compile-time branch
        return scale


@triton.jit
def _forward_kernel(
    product,
    row_stride,
    targets,
    first,
    words,
    highest,
    rest,
    weighted,
    chosen,
    shrink,
    masses,
    scale,
    cap,
    temperature,
    HAS_CAP: tl.constexpr,
    WRITES_MASSES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):
    """Add the words of a tile to the sums of one token."""
    row = tl.program_id(0).to(tl.int64)
    numbers = product + row * row_stride
    local = (tl.load(targets + row) - first).to(tl.int32)
    before = tl.load(highest + row)
    top = before
    mass = tl.load(rest + row)
    weight = tl.load(weighted + row)
    for start in range(0, words, BLOCK_SIZE):
        place = start + tl.arange(0, BLOCK_SIZE)
        inside = place < words
        logits = _logits(tl.load(numbers + place, mask=inside, other=0.0), scale, cap, temperature, HAS_CAP)
        new_top = tl.maximum(top, tl.max(tl.where(inside, logits, float("-inf")), 0))
        found = tl.where(inside & (place != local), tl.exp(logits - new_top), 0.0)
        smaller = tl.exp(top - new_top)
        mass = mass * smaller + tl.sum(found, 0)
        weight = weight * smaller + tl.sum(found * logits, 0)
        top = new_top
    tl.store(highest + row, top)
    tl.store(rest + row, mass)
    tl.store(weighted + row, weight)
    if (local >= 0) & (local < words):
        tl.store(chosen + row, _logits(tl.load(numbers + local), scale, cap, temperature, HAS_CAP))
    if WRITES_MASSES:
        tl.store(shrink + row, tl.exp(before - top))
        for start in range(0, words, BLOCK_SIZE):
            place = start + tl.arange(0, BLOCK_SIZE)
            inside = place < words
            logits = _logits(tl.load(numbers + place, mask=inside, other=0.0), scale, cap, temperature, HAS_CAP)
            found = tl.where(place != local, tl.exp(logits - top), 0.0)
            found = found * _derivative(logits, scale, cap, temperature, HAS_CAP)
            tl.store(masses + row * words + place, found.to(masses.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    product,
    row_stride,
    targets,
    first,
    words,
    logsumexp,
    others,
    own,
    gradient,
    scale,
    cap,
    temperature,
    HAS_CAP: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):
    """Write the gradient of the products of one token with some words."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = place < words
    local = (tl.load(targets + row) - first).to(tl.int32)
    logits = _logits(
        tl.load(product + row * row_stride + place, mask=inside, other=0.0), scale, cap, temperature, HAS_CAP
    )
    found = tl.exp(logits - tl.load(logsumexp + row)) * tl.load(others + row)
    found = tl.where(place == local, tl.load(own + row), found)
    found = found * _derivative(logits, scale, cap, temperature, HAS_CAP)
    tl.store(gradient + row * words + place, found.to(gradient.dtype.element_ty), mask=inside)


class TritonTiles:
    """The arithmetic on a tile by Triton."""

    def add_tile(
        self, sums: RowSums, product_R_W: Tensor, targets_R: Tensor, first: int, logit_map: LogitMap, *, masses: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Add the words of a tile to the sums, in place (``TileKernel``)."""
        rows, words = product_R_W.shape
        product_R_W = _with_adjacent_words(product_R_W)
        shrink_R = torch.empty_like(sums.rest_R) if masses else None
        found_R_W = product_R_W.new_empty(rows, words, dtype=_multiplied_type(product_R_W)) if masses else None
        _forward_kernel[(rows,)](
            product_R_W,
            product_R_W.stride(0),
            targets_R.contiguous(),
            first,
            words,
            sums.highest_R,
            sums.rest_R,
            sums.weighted_R,
            sums.chosen_R,
            sums.rest_R if shrink_R is None else shrink_R,
            product_R_W if found_R_W is None else found_R_W,
            *_numbers(logit_map),
            HAS_CAP=logit_map.scaling.cap is not None,
            WRITES_MASSES=masses,
            BLOCK_SIZE=_block(words),
            num_warps=WARPS,
        )
        return None if shrink_R is None or found_R_W is None else (shrink_R, found_R_W)

    def gradient_tile(
        self,
        product_R_W: Tensor,
        targets_R: Tensor,
        first: int,
        logsumexp_R: Tensor,
        others_R: Tensor,
        own_R: Tensor,
        logit_map: LogitMap,
    ) -> Tensor:
        """Return the gradient of a tile's product (``TileKernel``)."""
        rows, words = product_R_W.shape
        product_R_W = _with_adjacent_words(product_R_W)
        gradient_R_W = product_R_W.new_empty(rows, words, dtype=_multiplied_type(product_R_W))
        block = _block(words)
        _backward_kernel[(rows, triton.cdiv(words, block))](
            product_R_W,
            product_R_W.stride(0),
            targets_R.contiguous(),
            first,
            words,
            logsumexp_R.contiguous(),
            others_R.contiguous(),
            own_R.contiguous(),
            gradient_R_W,
            *_numbers(logit_map),
            HAS_CAP=logit_map.scaling.cap is not None,
            BLOCK_SIZE=block,
            num_warps=WARPS,
        )
        return gradient_R_W


TRITON_TILES = TritonTiles()


def _numbers(logit_map: LogitMap) -> tuple[float, float, float]:
    scaling = logit_map.scaling
    return float(scaling.scale), 1.0 if scaling.cap is None else float(scaling.cap), float(logit_map.temperature)


def _block(words: int) -> int:
    return int(min(BLOCK, triton.next_power_of_2(words)))


def _with_adjacent_words(product_R_W: Tensor) -> Tensor:
    """Return the product with the words of a row side by side in memory, as the kernels read it."""
    return product_R_W if product_R_W.stride(1) == 1 else product_R_W.contiguous()


def _multiplied_type(product_R_W: Tensor) -> torch.dtype:
    """Return the type that the result is multiplied in: on a GPU that of the product, so that it need not be cast again."""
    return product_R_W.dtype if product_R_W.is_cuda else torch.float32
