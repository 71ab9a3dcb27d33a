"""A trained model with its tokenizer, unsharded or sharded among the processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from rewardkit.train.distributed.fsdp import ShardedModel
from rewardkit.train.models.precision import autocast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class TrainedModel:
    """The common part of policies and reward models."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        sharded: ShardedModel | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Move the model to its device.

        Args:
            model: A model of transformers, perhaps with adapters of peft.
            tokenizer: Its tokenizer.
            device: The device of this process.
            sharded: The sharded model, if the model is sharded. It is on its device already.
            compute_dtype: The data type of matrix products; by default that of the model's weights.
        """
        self.model: Any = model.to(device) if sharded is None else model
        self.tokenizer = tokenizer
        self.device = device
        self.sharded = sharded
        """Set if the model is sharded. All processes must then call the methods that use its weights together."""
        self.compute_dtype: torch.dtype = compute_dtype or model.dtype
        """The data type of matrix products. Trained weights are float32."""

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that the optimizer changes, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which matrix products are computed in the compute type."""
        return autocast(self.device, self.compute_dtype)

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that uses the model's weights, in the compute type."""
        with self.autocast():
            return function(*args) if self.sharded is None else self.sharded(function, *args)
