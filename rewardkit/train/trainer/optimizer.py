"""One optimiser step: gradients added up over micro-batches, clipped, and applied at the learning rate of the step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rewardkit.errors import RewardkitError
from rewardkit.train.config import OptimizerConfig
from rewardkit.train.data.batching import own_micro_batches
from rewardkit.train.distributed import collectives, fsdp

logger = logging.getLogger(__name__)


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """The rate of a step (from 0): warm-up from 0, then constant, or falling to ``min_lr`` by the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    left = max(total - config.warmup_steps, 1)
    share = min((step - config.warmup_steps) / left, 1.0)
    match config.schedule:
        case "constant":
            return config.lr
        case "linear":
            return config.min_lr + (config.lr - config.min_lr) * (1 - share)
        case "cosine":
            return config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * share)) / 2


class Optimizer:
    """AdamW over named parameters."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: OptimizerConfig,
        total_steps: int,
        shards: fsdp.Shards | None = None,
    ) -> None:
        """Begin.

        Args:
            parameters: What it changes.
            config: How.
            total_steps: Of the run, for the course of the learning rate.
            shards: Of the model that they belong to, if it is divided among the processes.
        """
        self.shards = shards
        self.config = config
        self.total_steps = total_steps
        self.parameters = parameters
        matrices = [value for value in parameters.values() if value.dim() >= 2]
        others = [value for value in parameters.values() if value.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps
        )

    def accumulate(
        self,
        lengths: Sequence[int],
        most_tokens: int,
        backward: Callable[[list[int]], None],
        *,
        through_model: bool = True,
    ) -> int:
        """Add up the gradients of a batch, cut into micro-batches, and over all processes.

        Of several processes each takes its share of the rows; afterwards all have the gradient of the whole batch.

        Out of memory, the gradients so far are thrown away and the batch is cut finer; what ``backward`` notes down must
        therefore not be added up over calls for one row. A model that is divided can't do that: the processes would not agree.

        Args:
            lengths: Tokens of each row of the whole batch.
            most_tokens: Most tokens of a micro-batch, padding included.
            backward: Called with the indices of some rows; adds their gradients.
            through_model: Whether that goes backward through the model, not only through what stands on it.

        Returns:
            The micro-batch size that went well.

        Raises:
            torch.OutOfMemoryError: A single row does not fit.
            RewardkitError: Out of memory, and the model is divided.
        """
        while True:
            self.adamw.zero_grad(set_to_none=True)
            parts, idle = own_micro_batches(lengths, most_tokens)
            try:
                for part in parts:
                    backward(part)
                if self.shards is not None:
                    with torch.set_grad_enabled(through_model):
                        self.shards.idle(idle)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.shards is not None:
                    raise RewardkitError(
                        f"out of memory with micro_batch_tokens {most_tokens}, which is not halved in passing with shard: true; "
                        "set it lower, and the same command goes on from the latest checkpoint"
                    ) from error
                if all(len(part) == 1 for part in parts):
                    raise
                largest = max(len(part) * lengths[part[0]] for part in parts)  # may be far below what is allowed
                most_tokens = max(min(most_tokens, largest) // 2, 1)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                logger.warning("out of memory: going on with micro-batches of %s tokens", most_tokens)
                continue
            # What is divided has been added up in passing; a batch of no rows has no gradient anywhere.
            if lengths:
                collectives.add_gradients(value for value in self.parameters.values() if not fsdp.is_sharded(value))
            return most_tokens

    def step(self, step: int) -> float:
        """Apply the gradients at the rate of this step; returns their length before clipping.

        Gradients that are not finite are not applied.
        """
        trained = [value for value in self.parameters.values() if value.grad is not None]
        if not trained:
            return 0.0
        if self.shards is None:
            norm = float(nn.utils.clip_grad_norm_(trained, self.config.max_grad_norm or math.inf))
        else:
            norm = fsdp.clip([value.grad for value in trained if value.grad is not None], self.config.max_grad_norm)
        if math.isfinite(norm):
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate(self.config, step, self.total_steps)
            self.adamw.step()
        else:
            logger.warning("step %s: the gradient is not finite; the weights stay as they are", step)
        self.adamw.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.adamw.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, which holds whole tensors."""
        parameters = [value for group in self.adamw.param_groups for value in group["params"]]
        for index, moments in state["state"].items():
            for name, value in moments.items():
                if value.shape == parameters[index].shape:
                    moments[name] = fsdp.part_of(value, parameters[index])
        self.adamw.load_state_dict(state)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is about memory: on an accelerator a class of its own, on a CPU a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
