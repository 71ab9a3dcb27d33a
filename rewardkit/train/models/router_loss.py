"""The auxiliary loss of mixtures of experts that balances their load (https://arxiv.org/abs/2101.03961), as transformers defines it.

A model's configuration asks for it by ``output_router_logits`` and ``router_aux_loss_coef``. The model's own forward adds it only where it
computes the loss itself, which no stage lets it do. Therefore a hook adds its gradient where the backbone's hidden states are made, so
that every loss on them has it. A micro-batch's part is its share of the tokens of the optimizer step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rewardkit.errors import ConfigError, Location


@dataclass(slots=True)
class _Share:
    """The part of an optimizer step that is computed now."""

    share: float = 1.0
    losses: list[Tensor] = field(default_factory=list)


_SHARE: ContextVar[_Share | None] = ContextVar("_SHARE", default=None)


@contextmanager
def router_loss_share(share: float) -> Iterator[list[Tensor]]:
    """Return a context in which forward passes are of a part of an optimizer step.

    Args:
        share: The share of the step's tokens.

    Yields:
        A list to which each forward pass appends its part of the auxiliary loss.
    """
    part = _Share(share)
    token = _SHARE.set(part)
    try:
        yield part.losses
    finally:
        _SHARE.reset(token)


def asks_for_router_loss(config: Any) -> bool:
    """Return whether a model's configuration, of transformers, asks for the auxiliary loss."""
    text = config.get_text_config()
    return bool(getattr(text, "output_router_logits", False)) and _coefficient(text) > 0


def add_router_loss(model: Any, location: Location | None = None) -> None:
    """Add the gradient of the auxiliary loss to all backward passes through a model, if its configuration asks for it.

    Args:
        model: A model of transformers without adapters.
        location: The place of the model's path in the configuration, for messages.

    Raises:
        ConfigError: The configuration asks for the loss, and transformers does not define it for this model.
    """
    if not asks_for_router_loss(model.config):
        return
    text = model.config.get_text_config()
    balance = getattr(sys.modules[type(model).__module__], "load_balancing_loss_func", None)
    experts = _first(text, "num_experts", "num_local_experts", "n_routed_experts")
    chosen = _first(text, "num_experts_per_tok", "moe_top_k")
    if balance is None or experts is None or chosen is None:
        problem = (
            f"the configuration of {type(model).__name__} asks for an auxiliary loss (output_router_logits), which transformers does not "
            "define for this model; set output_router_logits to false in its config.json"
        )
        raise ConfigError((location, problem))
    coefficient = _coefficient(text)

    def ask(_module: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**inputs, "output_router_logits": torch.is_grad_enabled()}

    def add(_module: Any, _args: Any, inputs: dict[str, Any], output: Any) -> Any:
        hidden = output.last_hidden_state
        if not (torch.is_grad_enabled() and hidden.requires_grad):
            return output
        loss = coefficient * balance(output.router_logits, experts, chosen, inputs.get("attention_mask"))
        part = _SHARE.get() or _Share()
        part.losses.append(part.share * loss.detach())
        output.last_hidden_state = _WithLoss.apply(hidden, loss, part.share)  # type: ignore[no-untyped-call]
        return output

    backbone = getattr(model, model.base_model_prefix)
    backbone.register_forward_pre_hook(ask, with_kwargs=True)
    backbone.register_forward_hook(add, with_kwargs=True)


class _WithLoss(torch.autograd.Function):
    """Hidden states unchanged, with the gradient of a loss added to the backward pass through them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, loss: Tensor, share: float) -> Tensor:
        ctx.share = share
        ctx.save_for_backward(loss.detach())
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (loss,) = ctx.saved_tensors
        return gradient, torch.full_like(loss, ctx.share), None


def _coefficient(text_config: Any) -> float:
    return float(_first(text_config, "router_aux_loss_coef", "aux_loss_coef") or 0.0)


def _first(config: Any, *names: str) -> Any:
    """Return the first of these settings that a configuration has."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)
