"""A trained model with its tokenizer, unsharded or sharded among the processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from rewardkit.errors import RewardkitError
from rewardkit.reward_models import halves, is_out_of_memory, release_memory
from rewardkit.train.data.batching import PackedRows, own_micro_batches
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_if_peer_failed
from rewardkit.train.distributed.fsdp import ShardedModel
from rewardkit.train.models.offload import OffloadedModel
from rewardkit.train.models.precision import autocast
from rewardkit.train.models.router_loss import asks_for_router_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

logger = logging.getLogger(__name__)


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
        self.has_router_loss = asks_for_router_loss(model.config)
        """Whether backward passes through the trained model add the gradient of an auxiliary loss."""
        self._halvings = 0
        """How often micro-batches of passes without gradient have been halved because memory ran out."""
        self._offloaded: OffloadedModel | None = None

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that the optimizer changes, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which matrix products are computed in the compute type."""
        return autocast(self.device, self.compute_dtype)

    def compute_rows(
        self,
        compute: Callable[[list[int]], Tensor],
        result: Tensor,
        lengths: Sequence[int],
        most_tokens: int,
        packed: PackedRows | None = None,
    ) -> Tensor:
        """Compute a tensor row by row, without gradient. Each process computes its share of the rows, and all get the result.

        When memory runs out, the micro-batches that are left are halved, and those of later calls, too. A sharded model can't do that,
        because the processes would no longer agree.

        Args:
            compute: Returns the values of some rows, of shape (rows, …), whose further dimensions may be smaller than the result's. It
                must use the weights of a sharded model in one call.
            result: A tensor of zeros on the CPU, with one row for each row. It is written to.
            lengths: The number of tokens of each row, padding included.
            most_tokens: The largest number of tokens of a micro-batch.
            packed: The sequences of each row, if they are packed.

        Returns:
            The values of all rows, on the CPU.

        Raises:
            torch.OutOfMemoryError: A single row does not fit into memory.
            RewardkitError: Memory ran out with a sharded model.
        """
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.on_device():
            parts, idle = own_micro_batches(lengths, most_tokens, packed)
            for _ in range(self._halvings):
                parts = halves(parts)
            while parts:
                raise_if_peer_failed()
                if not self._fits(compute, parts[0], result):
                    parts = halves(parts)
                    self._halvings += 1
                    continue
                parts = parts[1:]
            if self.sharded is not None:
                self.sharded.run_idle_passes(idle)
        self.model.train(was_training)
        return collectives.all_reduce_sum(result)

    def _fits(self, compute: Callable[[list[int]], Tensor], part: list[int], result: Tensor) -> bool:
        """Compute the values of some rows, and return False if memory ran out that fewer rows may not need."""
        try:
            found = compute(part)
        except RuntimeError as error:
            if not is_out_of_memory(error) or (len(part) == 1 and self.sharded is None):
                raise
            if self.sharded is not None:
                raise RewardkitError(
                    f"out of memory in a pass over {len(part)} rows, which a sharded run can't halve by itself; set micro_batch_tokens "
                    "lower, and run the same command again to resume from the latest checkpoint"
                ) from error
        else:
            place: tuple[Any, ...] = (part, *(slice(size) for size in found.shape[1:]))
            result[place] = found.to(result)
            return True
        release_memory()
        logger.warning("out of memory in a pass over %s rows: continuing with half as many", len(part))
        return False

    def offload(self) -> None:
        """Keep the weights, which must be frozen, in the CPU's memory, except inside ``on_device``."""
        self._offloaded = OffloadedModel(self.model, self.device)

    def on_device(self) -> AbstractContextManager[None]:
        """Return a context in which the weights are on the device."""
        return nullcontext() if self._offloaded is None else self._offloaded.on_device()

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that uses the model's weights, in the compute type."""
        with self.autocast():
            return function(*args) if self.sharded is None else self.sharded(function, *args)
