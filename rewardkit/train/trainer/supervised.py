"""The training loop on rows of data, which SFT, reward models and DPO share."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rewardkit.train.config import RowsConfig
from rewardkit.train.data.batching import PackedRows
from rewardkit.train.data.mixture import order_of_rows
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.trainer.optimizer import Optimizer, learning_rate
from rewardkit.train.trainer.run import Run


class SupervisedTask(ABC):
    """What a stage trains on rows of data: a model, its loss and its metrics."""

    name: str
    """The name of the model in checkpoints."""
    stats_per_row: int
    """The number of statistics that ``compute_loss`` returns for each row."""

    @property
    @abstractmethod
    def model(self) -> TrainedModel:
        """The model that is trained."""

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each training row."""

    def packed_rows(self, rows: Sequence[int]) -> PackedRows | None:  # noqa: ARG002 - for subclasses
        """Return the sequences of some training rows if they are packed; otherwise None.

        Args:
            rows: The indices of the rows.
        """
        return None

    @abstractmethod
    def set_batch(self, rows: Sequence[int]) -> None:
        """Set the rows of the next step. ``compute_loss`` refers to them by their position."""

    @abstractmethod
    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Return the part of the step's loss of some rows, with gradient, and their statistics.

        Args:
            part: Positions of the rows in the step.

        Returns:
            The loss, a scalar, and the statistics, of shape (rows, ``stats_per_row``).
        """

    @abstractmethod
    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Return the metrics of a step from the statistics of all its rows."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Return the metrics of the held-out rows; empty if there are none."""

    def quality(self, metrics: Mapping[str, float]) -> float:
        """Return the quality of an evaluation, by which the best model is chosen. Higher is better."""
        return -metrics["loss"]

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Save the model."""


def train_supervised(
    run: Run, task: SupervisedTask, config: RowsConfig, *, shuffle: bool = True, sources: Sequence[int] = ()
) -> None:
    """Run the remaining steps of a run.

    Args:
        run: The run.
        task: What is trained.
        config: The configuration.
        shuffle: Whether rows are shuffled in each epoch.
        sources: The number of training rows of each source of the data; needed if the sources have weights.

    Raises:
        OutputError: The run's folder can't be written.
        NonFiniteError: A loss, a gradient or a weight is infinite or NaN.
        Interrupted: The run was interrupted; it can be resumed.
    """
    trained = task.model.trained
    optimizer = Optimizer(
        trained, config.optimizer, run.total_steps, task.model.sharded, has_router_loss=task.model.has_router_loss
    )
    parts = {task.name: (trained, optimizer)}
    order = order_of_rows(config.data, sources or [len(task.lengths)], config.seed, shuffle=shuffle)
    micro, first = config.micro_batch_tokens, 0
    if (latest := run.checkpoints.latest()) is not None:
        state = run.checkpoints.restore(latest, parts)
        first = state["step"]
        run.reset_best(state["best"])
        run.rewind(first)
        run.console.resumed(first)
    else:
        run.rewind(-1)
        _evaluate(run, task, 0)
        if run.must_stop():
            raise run.interrupted(0)
    task.model.model.train()
    for step in run.steps(first):
        began = time.monotonic()
        rows = list(order.take(step * config.batch_size, config.batch_size))
        lengths = [task.lengths[row] for row in rows]
        task.set_batch(rows)
        stats_B_N = torch.zeros(len(rows), task.stats_per_row)

        def backward(part: list[int], stats_B_N: Tensor = stats_B_N) -> Tensor:
            loss, stats_P_N = task.compute_loss(part)
            loss.backward()  # type: ignore[no-untyped-call]
            stats_B_N[part] = stats_P_N.detach().cpu()
            return loss

        with running_pass(f"the update of step {step + 1}"):
            micro = optimizer.accumulate(lengths, micro, backward, packed=task.packed_rows(rows))
            norm = optimizer.step(step)
        seconds = time.monotonic() - began
        done = step + 1
        run.log(
            done,
            {
                **task.metrics(collectives.all_reduce_sum(stats_B_N)),
                **optimizer.router_metrics(),
                "grad_norm": norm,
                **({"updates_skipped": optimizer.take_skipped()} if config.optimizer.non_finite == "skip" else {}),
                "lr": learning_rate(config.optimizer, step, run.total_steps),
                "tokens": sum(lengths),
                "tokens_per_s": sum(lengths) / seconds,
                "seconds": seconds,
            },
        )
        if run.is_due(done, config.evaluate.every):
            _evaluate(run, task, done)
        stop = run.must_stop()
        if stop or run.is_due(done, config.checkpoint.every):
            with running_pass(f"the checkpoint after step {done}"):
                run.checkpoints.save(done, parts, {"best": run.best})
        if stop and done < run.total_steps:
            raise run.interrupted(done)


def _evaluate(run: Run, task: SupervisedTask, done: int) -> None:
    run.console.activity = "evaluating the held-out rows"
    with running_pass(f"the evaluation after step {done}"):
        found = task.evaluate()
    run.console.activity = ""
    if not found:
        return
    run.log(done, found, kind="eval")
    if not math.isfinite(found.get("loss", 0.0)) and run.config.optimizer.non_finite == "stop":
        when = f"after step {done}" if done else "before the first step"
        raise NonFiniteError(f"the loss of the held-out rows {when} is not finite; look for unusual rows in data.eval")
    if done > 0:
        run.offer_best(task.quality(found), task.save)
