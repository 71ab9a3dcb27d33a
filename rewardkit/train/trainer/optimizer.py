"""AdamW with gradient accumulation, clipping and a learning-rate schedule."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rewardkit.errors import RewardkitError
from rewardkit.reward_models import is_out_of_memory, release_memory
from rewardkit.train.config import OptimizerConfig
from rewardkit.train.data.batching import PackedRows, own_micro_batches
from rewardkit.train.distributed import collectives, fsdp
from rewardkit.train.models.offload import OffloadedAdamW
from rewardkit.train.models.precision import NonFiniteError, find_non_finite
from rewardkit.train.models.router_loss import router_loss_share

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_SKIPS = 10
"""Updates that may be skipped in a row, because their loss or gradient is not finite."""


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """Return the learning rate of a step: linear warm-up, then constant, or decay to ``min_lr`` at the last step.

    Args:
        config: The schedule.
        step: Number of the step, from 0.
        total: Number of steps of the run.
    """
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
        sharded: fsdp.ShardedModel | None = None,
        *,
        has_router_loss: bool = False,
    ) -> None:
        """Create the optimiser.

        Args:
            parameters: The trained parameters by name. Matrices get weight decay.
            config: Learning rate, betas, weight decay and clipping.
            total_steps: Number of steps of the run, for the learning-rate schedule.
            sharded: The sharded model that the parameters belong to, if it is sharded.
            has_router_loss: Whether the model adds an auxiliary loss (``models.router_loss``), which is then measured.
        """
        self.sharded = sharded
        self.config = config
        self.total_steps = total_steps
        self.parameters = parameters
        self._loss_is_finite = True
        """Whether the loss of the accumulated gradients is finite."""
        self._skipped = 0
        self._skipped_in_a_row = 0
        self._has_router_loss = has_router_loss
        self._router_loss = 0.0
        matrices = [value for value in parameters.values() if value.dim() >= 2]
        others = [value for value in parameters.values() if value.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.adamw = _adamw(config, [group for group in groups if group["params"]])

    def accumulate(
        self,
        lengths: Sequence[int],
        most_tokens: int,
        backward: Callable[[list[int]], Tensor | None],
        *,
        through_model: bool = True,
        packed: PackedRows | None = None,
    ) -> int:
        """Accumulate the gradients of a batch over micro-batches and processes.

        Each process takes its share of the rows. Afterwards every process has the gradient of the whole batch.

        When memory runs out, an unsharded run discards the gradients and starts again with smaller micro-batches; ``backward`` may
        therefore be called twice for one row. A sharded run stops with an error, because the processes would no longer agree.

        Args:
            lengths: Number of tokens of each row of the whole batch.
            most_tokens: Largest number of tokens of a micro-batch, padding included.
            backward: Called with the indices of some rows; adds their gradients and returns their loss, if it is to be checked.
            through_model: Whether the backward pass goes through the model, rather than only through a head on it.
            packed: The sequences of each row, if they are packed.

        Returns:
            The largest number of tokens of a micro-batch that fitted into memory.

        Raises:
            torch.OutOfMemoryError: A single row does not fit into memory.
            RewardkitError: Memory ran out in a sharded run.
        """
        while True:
            self.adamw.zero_grad(set_to_none=True)
            parts, idle = own_micro_batches(lengths, most_tokens, packed)
            try:
                losses, router_loss = [], 0.0
                for part in parts:
                    with router_loss_share(sum(lengths[row] for row in part) / sum(lengths)) as auxiliary:
                        loss = backward(part)
                    # A loss would keep its graph's small blocks, between which the C library could not join freed activations.
                    losses.append(None if loss is None else loss.detach())
                    del loss
                    router_loss += sum(map(float, auxiliary))
                if self.sharded is not None:
                    with torch.set_grad_enabled(through_model):
                        self.sharded.run_idle_passes(idle)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.sharded is not None:
                    raise RewardkitError(
                        f"out of memory with micro_batch_tokens {most_tokens}, which a sharded run can't halve by itself; "
                        "set it lower, and run the same command again to resume from the latest checkpoint"
                    ) from error
                if all(len(part) == 1 for part in parts):
                    raise
                largest = max(len(part) * lengths[part[0]] for part in parts)  # may be far below the limit
                most_tokens = max(min(most_tokens, largest) // 2, 1)
                release_memory()
                logger.warning("out of memory: continuing with micro-batches of %s tokens", most_tokens)
                continue
            self._loss_is_finite = not collectives.any_rank(
                any(not bool(torch.isfinite(found).all()) for found in losses if found is not None)
            )
            if self._has_router_loss:
                self._router_loss = float(collectives.all_reduce_sum(torch.tensor(router_loss)))
            # FSDP has reduced the gradients of sharded parameters; an empty batch has no gradient in any process.
            if lengths:
                collectives.all_reduce_gradients(
                    value for value in self.parameters.values() if not fsdp.is_sharded(value)
                )
            return most_tokens

    def step(self, step: int) -> float:
        """Apply the gradients. If they or their loss are not finite, do what ``optimizer.non_finite`` says.

        Args:
            step: Number of the training step, from 0, which sets the learning rate.

        Returns:
            The norm of the gradients before clipping.

        Raises:
            NonFiniteError: The loss or the gradients are not finite, or the update made a weight infinite or NaN. All processes
                raise it.
        """
        trained = [value for value in self.parameters.values() if value.grad is not None]
        if not trained:
            return 0.0
        if self.sharded is None:
            norm = float(nn.utils.clip_grad_norm_(trained, self.config.max_grad_norm or math.inf))
        else:
            norm = fsdp.clip_gradients(
                [value.grad for value in trained if value.grad is not None], self.config.max_grad_norm
            )
        if self._loss_is_finite and math.isfinite(norm):
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate(self.config, step, self.total_steps)
            self.adamw.step()
            self._skipped_in_a_row = 0
            self._refuse_non_finite_weights(step)
        else:
            what = f"the gradient is not finite (norm {norm:g})" if self._loss_is_finite else "the loss is not finite"
            self._skip(step, what)
        self.adamw.zero_grad(set_to_none=True)
        return norm

    def take_skipped(self) -> int:
        """Return how many updates were skipped since the last call."""
        found, self._skipped = self._skipped, 0
        return found

    def router_metrics(self) -> dict[str, float]:
        """Return the auxiliary loss of the last accumulated batch as a metric; empty if the model has none."""
        return {"router_loss": self._router_loss} if self._has_router_loss else {}

    def _skip(self, step: int, what: str) -> None:
        """Count a skipped update, or raise NonFiniteError."""
        if self.config.non_finite == "stop":
            raise NonFiniteError(
                f"step {step + 1}: {what}, so the weights were not changed. Lower optimizer.lr, look for unusual rows in the data, or "
                "skip such updates with optimizer.non_finite: skip"
            )
        self._skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MAX_CONSECUTIVE_SKIPS:
            raise NonFiniteError(
                f"step {step + 1}: {what}; {self._skipped_in_a_row} updates in a row were skipped. Lower optimizer.lr, or look for "
                "unusual rows in the data"
            )
        logger.warning("step %s: %s; the update is skipped", step + 1, what)

    def _refuse_non_finite_weights(self, step: int) -> None:
        """Raise NonFiniteError, in all processes, if a weight is not finite after an update."""
        name = find_non_finite(self.parameters)
        if collectives.any_rank(name is not None):
            where = f" ({name})" if name is not None else ""
            raise NonFiniteError(
                f"step {step + 1}: weights have become infinite or NaN{where}. Lower optimizer.lr or optimizer.max_grad_norm"
            )

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: tensors and numbers of each parameter."""
        state = self.adamw.state_dict()
        return {**state, "state": {index: _flat(values) for index, values in state["state"].items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint, which holds unsharded tensors."""
        parameters = [value for group in self.adamw.param_groups for value in group["params"]]
        for index, moments in state["state"].items():
            for name, value in moments.items():
                if isinstance(value, Tensor) and value.shape == parameters[index].shape:
                    moments[name] = fsdp.local_part(value, parameters[index])
        # Settings are those of the configuration, such as the kernel, which does not change what a run learns.
        self.adamw.load_state_dict({**state, "param_groups": self.adamw.state_dict()["param_groups"]})


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a parameter without inner mappings, into which bitsandbytes puts what belongs to 8 bits."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= value if isinstance(value, Mapping) else {name: value}
    return found


def _adamw(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return the configured optimizer of parameter groups."""
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if config.use == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found,import-untyped,unused-ignore]

        found: torch.optim.Optimizer = AdamW8bit(groups, **settings)
        return found
    if config.offload:
        return OffloadedAdamW(groups, **settings)
    # One kernel for many parameters takes either sharded or other ones; a sharded critic's head is not sharded.
    is_mixed = len({fsdp.is_sharded(parameter) for group in groups for parameter in group["params"]}) > 1
    is_fused = config.use == "adamw" and not is_mixed
    return torch.optim.AdamW(groups, **settings, fused=is_fused, foreach=not is_fused and not is_mixed)
