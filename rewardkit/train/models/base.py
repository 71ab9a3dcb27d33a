"""A model that learns, with its tokenizer: whole in every process, or divided among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from rewardkit.train.distributed.fsdp import ShardedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class TrainedModel:
    """What policies and reward models have in common."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, device: torch.device, sharded: ShardedModel | None = None
    ) -> None:
        self.model: Any = model.to(device) if sharded is None else model
        self.tokenizer = tokenizer
        self.device = device
        self.sharded = sharded
        """Set where the model is divided among several processes. All that passes it then is for all of them at once."""

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that an optimiser changes, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _inside(self, function: Callable[..., T], *args: Any) -> T:
        """Call what uses weights."""
        return function(*args) if self.sharded is None else self.sharded(function, *args)
