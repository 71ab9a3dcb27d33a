"""One run of a training stage: its folder, its logs, its interruption and its models.

The folder holds ``config.json`` (the resolved configuration, versions and hashes of the data), ``metrics.jsonl``, ``samples.jsonl``,
``alarms.jsonl``, ``report.html``, ``checkpoints/``, ``best/`` and ``final/``.
"""

from __future__ import annotations

import importlib.metadata
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import orjson
import torch
from rich.console import Console

from rewardkit.errors import OutputError, RewardkitError, UsageError
from rewardkit.interrupts import answering, was_interrupted
from rewardkit.registry import Provenance, Registry
from rewardkit.train.config import RunConfig, paths, plain
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import data_hashes
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.models.loading import best_device
from rewardkit.train.models.offload import refuse_useless_offload
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.monitoring.console import RunConsole
from rewardkit.train.monitoring.loggers import Logger, open_loggers
from rewardkit.train.monitoring.monitors import Alarm
from rewardkit.train.reports.run_report import write_report
from rewardkit.train.run_folder import BEST, metrics_of, read_metrics, step_of_line
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.atomic_folder import remove_folder, write_file, write_folder
from rewardkit.train.trainer.checkpoint import Checkpoints, step_of
from rewardkit.train.trainer.optimizer import learning_rate
from rewardkit.types import ScoredRollout

PACKAGES = ("rewardkit", "torch", "transformers", "peft", "accelerate")


class Interrupted(RewardkitError):  # noqa: N818 - not a failure of the run
    """The run was interrupted. A checkpoint is saved, and the run can be resumed."""

    exit_code = 130


class AlarmError(RewardkitError):
    """A monitor raised an alarm that ends the run."""


@dataclass
class Run:
    """One run of a stage."""

    config: RunConfig
    total_steps: int
    console: RunConsole
    registry: Registry
    """The plugins, some of which may observe the training steps."""
    stop: bool = False
    """True if the run should end after the current step."""
    best: float | None = None
    """The best result of an evaluation so far. Checkpoints keep it."""

    def __post_init__(self) -> None:
        self.folder = self.config.output
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.config.checkpoint.keep)
        self.loggers: list[Logger] = []
        self._failed_observers: set[Provenance] = set()

    @classmethod
    @contextmanager
    def open(cls, file: TrainFile, total_steps: int, facts: Mapping[str, Any]) -> Iterator[Run]:
        """Create the run's folder, open its loggers, and handle interruptions while the run is open.

        The first Ctrl-C, or SIGTERM, ends the run after the current step; a second Ctrl-C ends it at once.

        Args:
            file: The configuration, with the plugins that may observe the run.
            total_steps: Number of steps of the whole run.
            facts: Further entries of ``config.json``.

        Yields:
            The run.

        Raises:
            UsageError: An earlier run in the folder has already done more steps.
            OutputError: The folder can't be written.
            ConfigError: The configuration offloads to the CPU what is there already.
            NonFiniteError: Training inside raised it; the last good checkpoint is added to its message.
        """
        config = file.config
        refuse_useless_offload(file, best_device())
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        title = f"{config.model_dump()['stage']} → {config.output}"
        view = RunConsole(title, total_steps, None if collectives.is_main_process() else Console(quiet=True))
        run = cls(config, total_steps, view, file.registry)
        latest = run.checkpoints.latest()
        if latest is not None and step_of(latest) > total_steps:
            raise UsageError(
                f"the run in {config.output} has already done {step_of(latest)} steps, and is now to have {total_steps}; raise steps or "
                "epochs, use another output folder, or discard the run with --fresh"
            )
        earlier = _earlier_record(config.output)
        record = {
            "started": str(earlier.get("started", datetime.now(UTC).isoformat(timespec="seconds"))),
            "total_steps": total_steps,
            "config": plain(config),
            "versions": {name: _version(name) for name in PACKAGES},
            "data": {key: data_hashes(paths(getattr(config.data, key))) for key in ("train", "eval")},
            **facts,
        }
        try:
            if collectives.is_main_process():
                run.folder.mkdir(parents=True, exist_ok=True)
                write_file(run.folder / "config.json", orjson.dumps(record, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise OutputError(f"{run.folder} can't be written: {error.strerror}") from None
        collectives.barrier()
        if collectives.is_main_process():
            run.loggers = open_loggers(config.log, run.folder, plain(config), step_of(latest) if latest else 0)
        with run._interruptible(), run.console:
            if config.optimizer.warmup_steps > total_steps:
                reached = learning_rate(config.optimizer, total_steps - 1, total_steps)
                run.console.message(
                    f"optimizer.warmup_steps ({config.optimizer.warmup_steps}) is above the {total_steps} steps of the run, so the "
                    f"learning rate only rises to {reached:g}"
                )
            if latest is not None and earlier.get("total_steps") not in {None, total_steps}:
                run.console.message(f"the run now has {total_steps} steps; it had {earlier['total_steps']}")
            try:
                yield run
            except KeyboardInterrupt:
                run.console.message(f"interrupted; run the same command again to resume {run._resume_point()}")
                raise
            except NonFiniteError as error:
                raise NonFiniteError(f"{error}. {run._last_good_model()}") from error
            finally:
                for logger in run.loggers:
                    logger.close()
                run._report()

    def steps(self, first: int) -> Iterator[int]:
        """Yield the remaining steps, from 0, and seed the random number generators for each."""
        for step in range(first, self.total_steps):
            seed_step(self.config.seed, step)
            yield step

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        *,
        kind: Literal["train", "eval"] = "train",
        rollouts: Sequence[ScoredRollout] = (),
    ) -> None:
        """Log metrics to the run's folder, the console and the loggers, and those of a training step to plugins.

        Args:
            step: Number of finished steps.
            metrics: The metrics by name.
            kind: Whether the metrics are those of a training step or of an evaluation.
            rollouts: The rollouts that were sampled in the step.

        Raises:
            OutputError: ``metrics.jsonl`` can't be written.
        """
        self._append("metrics.jsonl", [{"step": step, "kind": kind, **metrics}])
        self.console.show(step, metrics, kind)
        for logger in self.loggers:
            logger.log(step, metrics, kind)
        if kind == "train" and collectives.is_main_process():
            self._notify_plugins(step, metrics, rollouts)

    def _notify_plugins(self, step: int, metrics: Mapping[str, float], rollouts: Sequence[ScoredRollout]) -> None:
        """Call the plugins that observe training. The first failure of each is reported, and the run continues."""
        failures = self.registry.tell("training_step_finished", step=step, metrics=metrics, rollouts=rollouts)
        for plugin, error in failures:
            if plugin not in self._failed_observers:
                self._failed_observers.add(plugin)
                self.console.message(
                    f"step {step}: training_step_finished of plugin {plugin.plugin!r} ({plugin}) raised "
                    f"{type(error).__name__}: {error}; the run continues, and further failures of this plugin are not reported"
                )

    def log_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append rollouts to ``samples.jsonl``."""
        self._append("samples.jsonl", [{"step": step, **sample} for sample in samples])

    def alarm(self, step: int, alarm: Alarm) -> None:
        """Log an alarm."""
        record = {"step": step, "name": alarm.name, "message": alarm.message, "metrics": alarm.metrics}
        self._append("alarms.jsonl", [record])
        self.console.message(f"step {step}: {alarm.message}")
        for logger in self.loggers:
            logger.alarm(step, alarm.name, alarm.message)

    def _append(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        if not collectives.is_main_process():
            return
        try:
            with (self.folder / name).open("ab") as stream:
                for record in records:
                    stream.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        except OSError as error:
            raise OutputError(f"{self.folder / name} can't be written: {error.strerror}") from None

    def rewind(self, step: int) -> None:
        """Drop the logged lines of later steps, which will be done again.

        Args:
            step: Number of finished steps; -1 drops everything.
        """
        if not collectives.is_main_process():
            return
        for name in ("metrics.jsonl", "samples.jsonl", "alarms.jsonl"):
            file = self.folder / name
            if not file.exists():
                continue
            kept = [line for line in file.read_bytes().splitlines(keepends=True) if step_of_line(line) <= step]
            write_file(file, b"".join(kept))
            if name == "metrics.jsonl":
                for record in read_metrics(self.folder):
                    self.console.recall(metrics_of(record), record["kind"])

    def is_due(self, step: int, every: int) -> bool:
        """Return whether something that happens every ``every`` steps, and after the last step, happens after ``step`` steps."""
        return step == self.total_steps or (every > 0 and step % every == 0)

    def save_model(self, save: Callable[[Path], None], name: str) -> Path:
        """Save the model to the folder ``final`` or ``best``. All processes call this, and the first one writes.

        Args:
            save: Writes the model into a folder.
            name: ``final`` or ``best``.

        Returns:
            The model's folder.
        """
        path = self.folder / name
        with running_pass(f"saving the model to {name}"):
            if collectives.is_main_process():
                write_folder(path, save)
            else:
                save(path)
            collectives.barrier()
        return path

    def offer_best(self, quality: float, save: Callable[[Path], None]) -> None:
        """Save the model to ``best`` if this evaluation is the best so far.

        Args:
            quality: The result of the evaluation; higher is better. NaN (nothing could be scored) is never best.
            save: Writes the model into a folder.
        """
        is_better = not math.isnan(quality) and (self.best is None or quality > self.best)
        if collectives.any_rank(is_better):
            self.best = quality
            self.save_model(save, BEST)

    def reset_best(self, best: float | None) -> None:
        """Restore the state in which ``best`` was the best result: remove a model that was saved to ``best`` later."""
        path = self.folder / BEST
        if collectives.is_main_process() and self.best not in {None, best} and path.is_dir():
            remove_folder(path)
        collectives.barrier()
        self.best = best if path.is_dir() else None

    def must_stop(self) -> bool:
        """Return whether any of the processes was asked to end."""
        return collectives.any_rank(self.stop)

    def interrupted(self, step: int) -> Interrupted:
        """Return the exception that ends an interrupted run, once a checkpoint is saved."""
        if step == 0:
            return Interrupted("interrupted before the first step; run the same command again to start")
        return Interrupted(
            f"interrupted after step {step} of {self.total_steps}; a checkpoint is saved in {self.checkpoints.folder}: run the same "
            "command again to resume"
        )

    def _last_good_model(self) -> str:
        """Return which checkpoint is the last good one. Weights that are not finite are never saved."""
        latest = self.checkpoints.latest()
        if latest is None:
            return "There is no checkpoint yet"
        return f"The last good checkpoint is {latest}; the same command resumes from it"

    def _resume_point(self) -> str:
        """Return where the same command would resume."""
        latest = self.checkpoints.latest()
        return "from the beginning" if latest is None else f"after step {step_of(latest)}"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def notice(number: int, _frame: FrameType | None) -> None:
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            if not self.stop:
                text = "finishing this step and saving a checkpoint; press Ctrl-C again to end at once"
                # In a thread, because the signal may have interrupted an import that printing needs.
                threading.Thread(target=self.console.message, args=(text,)).start()
            self.stop = True

        self.stop = self.stop or was_interrupted()
        with answering(notice, signal.SIGINT, signal.SIGTERM):
            yield

    def _report(self) -> None:
        """Write the report, however the run ended."""
        if not collectives.is_main_process():
            return
        try:
            write_report([self.folder], self.folder / "report.html")
        except RewardkitError as error:
            self.console.message(f"the report was not written: {error}")


def seed_step(seed: int, step: int) -> None:
    """Seed torch for a step, so that its random numbers (such as dropout) depend on the run's seed and the step alone."""
    torch.manual_seed(step_seed(seed, step))


def _earlier_record(output: Path) -> Mapping[str, Any]:
    """Return what ``config.json`` of an earlier run in a folder says; empty if there is none that can be read."""
    try:
        found = orjson.loads((output / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
