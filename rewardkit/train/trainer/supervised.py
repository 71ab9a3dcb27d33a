"""Learning from rows that are given, by their gradient alone: what SFT, reward models and DPO have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rewardkit.train.config import RowsConfig
from rewardkit.train.data.batching import Order
from rewardkit.train.distributed import collectives
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.trainer.optimizer import Optimizer, learning_rate
from rewardkit.train.trainer.run import Run


class SupervisedTask(ABC):
    """A model that learns from rows, and what a stage means by that."""

    name: str
    """Of the model in checkpoints."""
    stats_per_row: int
    """How many figures are noted of each row."""

    @property
    @abstractmethod
    def model(self) -> TrainedModel:
        """The model."""

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """Tokens of each row to train on."""

    @abstractmethod
    def set_batch(self, rows: Sequence[int]) -> None:
        """The rows of the step at hand; what follows names them by their place in it."""

    @abstractmethod
    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """The part of the step's loss that some rows contribute, with gradient, and what is noted of them: (rows, notes)."""

    @abstractmethod
    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Figures of a step for the log, from what was noted of all its rows."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Figures of the held-out rows; none where there are no such rows."""

    def quality(self, figures: Mapping[str, float]) -> float:
        """How good an evaluation is, for choosing the best model: the less loss, the better."""
        return -figures["loss"]

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model for others to use."""


def train_supervised(run: Run, task: SupervisedTask, config: RowsConfig, *, shuffle: bool = True) -> None:
    """All steps that are left of a run.

    Raises:
        OutputError: The run can't be written down.
        Interrupted: Somebody asked it to end; it can go on.
    """
    trained = task.model.trained
    optimizer = Optimizer(trained, config.optimizer, run.total_steps, task.model.shards)
    parts = {task.name: (trained, optimizer)}
    order = Order(len(task.lengths), config.seed, shuffle=shuffle)
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

        def backward(part: list[int], stats_B_N: Tensor = stats_B_N) -> None:
            loss, stats_P_N = task.compute_loss(part)
            loss.backward()  # type: ignore[no-untyped-call]
            stats_B_N[part] = stats_P_N.detach().cpu()

        micro = optimizer.accumulate(lengths, micro, backward)
        norm = optimizer.step(step)
        seconds = time.monotonic() - began
        done = step + 1
        run.log(
            done,
            {
                **task.metrics(collectives.added(stats_B_N)),
                "grad_norm": norm,
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
            run.checkpoints.save(done, parts, {"best": run.best})
        if stop and done < run.total_steps:
            raise run.interrupted(done)


def _evaluate(run: Run, task: SupervisedTask, done: int) -> None:
    run.console.activity = "evaluating the held-out rows"
    found = task.evaluate()
    run.console.activity = ""
    if not found:
        return
    run.log(done, found, kind="eval")
    if done > 0:
        run.offer_best(task.quality(found), task.save)
