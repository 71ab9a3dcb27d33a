"""What is computed of one tile of logits, some tokens × some words, by torch's own operations.

``logprobs`` goes through the tiles and multiplies; a kernel does the arithmetic in between. ``triton_tiles`` has the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


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


@dataclass(frozen=True, slots=True)
class LogitMap:
    """How logits at a temperature are made of the product of hidden states and output embedding."""

    scaling: LogitScaling
    temperature: float

    def logits(self, product: Tensor) -> Tensor:
        """Return the logits of a product at the temperature, in float32."""
        logits = self.scaling.apply(product)
        return logits if self.temperature == 1 else logits / self.temperature

    def derivative(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the logits, at the temperature 1, by the product."""
        return self.scaling.derivative(logits * self.temperature)


@dataclass(slots=True)
class RowSums:
    """What is known of some tokens after a part of the vocabulary: an online log-sum-exp. Shapes: (R,), float32."""

    highest_R: Tensor
    """The largest logit."""
    rest_R: Tensor
    """``Σ exp(z − highest)`` without the target."""
    weighted_R: Tensor
    """``Σ exp(z − highest)·z`` without the target."""
    chosen_R: Tensor
    """The logit of the target; 0 before its tile."""

    @classmethod
    def empty(cls, like_R_H: Tensor) -> RowSums:
        """Return the sums of no words, for as many tokens as there are rows."""
        zeros = [like_R_H.new_zeros(len(like_R_H), dtype=torch.float32) for _ in range(3)]
        return cls(torch.full_like(zeros[0], -torch.inf), *zeros)


class TileKernel(Protocol):
    """The arithmetic on a tile."""

    def add_tile(
        self, sums: RowSums, product_R_W: Tensor, targets_R: Tensor, first: int, logit_map: LogitMap, *, masses: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Add the words of a tile to the sums, in place.

        Args:
            sums: The sums of the words before.
            product_R_W: The product of the hidden states and a part of the output embedding.
            targets_R: Token ids.
            first: The id of the tile's first word.
            logit_map: How logits are made of the product.
            masses: Whether the masses are returned.

        Returns:
            If they are wanted, the factors that earlier masses shrink by, (R,), and ``exp(z − highest)`` times the derivative of the
            logit by the product, 0 for targets, (R, W).
        """
        ...

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
        """Return the gradient of a tile's product.

        Args:
            product_R_W: The product of the hidden states and a part of the output embedding.
            targets_R: Token ids.
            first: The id of the tile's first word.
            logsumexp_R: Of all logits of each token.
            others_R: What the probability of each word but the target is multiplied by.
            own_R: The gradient of the target's logit.
            logit_map: How logits are made of the product.

        Returns:
            The gradient, (R, W); in float32, or in the type that it is multiplied in.
        """
        ...


class TorchTiles:
    """The arithmetic on a tile by torch's own operations."""

    def add_tile(
        self, sums: RowSums, product_R_W: Tensor, targets_R: Tensor, first: int, logit_map: LogitMap, *, masses: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Add the words of a tile to the sums, in place (``TileKernel``)."""
        logits = logit_map.logits(product_R_W)
        new_highest = torch.maximum(sums.highest_R, logits.amax(-1))
        shrink = (sums.highest_R - new_highest).exp()
        found = (logits - new_highest[:, None]).exp_()
        local = targets_R - first
        inside = (local >= 0) & (local < logits.shape[1])
        place = local.clamp(0, logits.shape[1] - 1)[:, None]
        sums.chosen_R = torch.where(inside, logits.gather(-1, place).squeeze(-1), sums.chosen_R)
        found.scatter_(-1, place, found.gather(-1, place).masked_fill(inside[:, None], 0.0))
        sums.rest_R = sums.rest_R * shrink + found.sum(-1)
        sums.weighted_R = sums.weighted_R * shrink + torch.linalg.vecdot(found, logits)
        sums.highest_R = new_highest
        if not masses:
            return None
        if logit_map.scaling != NO_SCALING:
            found.mul_(logit_map.derivative(logits))
        return shrink, found

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
        logits = logit_map.logits(product_R_W)
        tile = (logits - logsumexp_R[:, None]).exp_().mul_(others_R[:, None])
        local = targets_R - first
        inside = ((local >= 0) & (local < tile.shape[1])).nonzero().squeeze(-1)
        tile[inside, local[inside]] = own_R[inside]
        if logit_map.scaling != NO_SCALING:
            tile.mul_(logit_map.derivative(logits))
        return tile


TORCH_TILES: TileKernel = TorchTiles()
