"""Means, variances and sums over the tokens that count. Every one is finite and 0 where nothing counts."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over where ``mask`` is True. NaN and infinity elsewhere do not matter, unlike with a product. Shape: ()."""
    return torch.where(mask, values, 0).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over where ``mask`` is True. Shape: ()."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Bessel-corrected variance over where ``mask`` is True, as TRL and verl have it; 0 for a single value. Shape: ()."""
    deviations = values - masked_mean(values, mask)
    return masked_sum(deviations.square(), mask) / (mask.sum() - 1).clamp(min=1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """``(x − mean)·rsqrt(variance + eps)`` over where ``mask`` is True, and 0 elsewhere.

    Args:
        values: Any shape; of a whole batch, or the result depends on how it was cut.
        mask: Same shape; True: counts.
        shift_mean: False adds the mean back, as InstructGPT's code does for rewards.
        eps: Added to the variance.
    """
    mean = masked_mean(values, mask)
    whitened = (values - mean) * torch.rsqrt(masked_variance(values, mask) + eps)
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0)
