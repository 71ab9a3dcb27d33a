"""A run's folder and its course: which steps, what is written down, when it is kept, how it ends.

In the folder: ``config.json`` (resolved, with versions and the data's hash), ``metrics.jsonl``, ``samples.jsonl``, ``alarms.jsonl``,
``report.html``, ``checkpoints/``, ``best/`` and ``final/``.
"""

from __future__ import annotations

import importlib.metadata
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import orjson
import torch
from rich.console import Console

from rewardkit.errors import OutputError, RewardkitError
from rewardkit.interrupts import answering
from rewardkit.registry import Provenance, Registry
from rewardkit.train.config import RunConfig, paths, plain
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import data_hash
from rewardkit.train.distributed import collectives
from rewardkit.train.monitoring.console import RunConsole
from rewardkit.train.monitoring.loggers import Logger, open_loggers
from rewardkit.train.reports.run_report import write_report
from rewardkit.train.run_folder import BEST, FINAL, _figures_of, _step_of
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.atomic_folder import remove_folder, write_file, write_folder
from rewardkit.train.trainer.checkpoint import Checkpoints, step_of
from rewardkit.types import ScoredRollout

PACKAGES = ("rewardkit", "torch", "transformers", "peft", "accelerate")


class Interrupted(RewardkitError):  # noqa: N818 - not a failure of the run
    """Somebody asked the run to end; it is kept and can go on."""

    exit_code = 130


class AlarmError(RewardkitError):
    """A monitor raised an alarm, and the configuration says to end then."""


@dataclass
class Run:
    """One run of a stage."""

    config: RunConfig
    total_steps: int
    console: RunConsole
    registry: Registry
    """The plugins, some of which may watch."""
    stop: bool = False
    """Whether somebody asked to end after this step."""
    best: float | None = None
    """The highest figure that an evaluation has given the model; kept in checkpoints."""

    def __post_init__(self) -> None:
        self.folder = self.config.output
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.config.checkpoint.keep)
        self.loggers: list[Logger] = []
        self._failed_observers: set[Provenance] = set()

    @classmethod
    @contextmanager
    def open(cls, file: TrainFile, total_steps: int, facts: Mapping[str, Any]) -> Iterator[Run]:
        """Make the folder and take notice of Ctrl-C: the first ends the run after its step, the second at once.

        SIGTERM, by which schedulers take a machine back, is as the first.

        Args:
            file: The configuration, and the plugins that may watch.
            total_steps: Of the whole run.
            facts: What else to keep beside the configuration.

        Raises:
            OutputError: The folder can't be written to.
        """
        config = file.config
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        title = f"{config.model_dump()['stage']} → {config.output}"
        view = RunConsole(title, total_steps, None if collectives.is_first() else Console(quiet=True))
        run = cls(config, total_steps, view, file.registry)
        record = {
            "config": plain(config),
            "versions": {name: _version(name) for name in PACKAGES},
            "data": {str(path): data_hash([path]) for path in (*paths(config.data.train), *paths(config.data.eval))},
            **facts,
        }
        try:
            if collectives.is_first():
                run.folder.mkdir(parents=True, exist_ok=True)
                write_file(run.folder / "config.json", orjson.dumps(record, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise OutputError(f"{run.folder} can't be written: {error.strerror}") from None
        collectives.wait()
        if collectives.is_first():
            latest = run.checkpoints.latest()
            run.loggers = open_loggers(config.log, run.folder, plain(config), step_of(latest) if latest else 0)
        with run._interruptible(), run.console:
            try:
                yield run
            except KeyboardInterrupt:
                run.console.message(f"left at once; the same command goes on {run._place_to_go_on()}")
                raise
            finally:
                for logger in run.loggers:
                    logger.close()
                run._report()

    @property
    def finished(self) -> bool:
        """Whether this output folder holds a finished run."""
        return (self.folder / FINAL).is_dir()

    def steps(self, first: int) -> Iterator[int]:
        """The steps that are left, each with its own random numbers."""
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
        """Write figures down and show them; those of a training step to the plugins that watch, too.

        Args:
            step: How many steps are done.
            metrics: By name.
            kind: Whether they are of a training step or of an evaluation.
            rollouts: What the step learned from, where it sampled any.
        """
        self._append("metrics.jsonl", [{"step": step, "kind": kind, **metrics}])
        self.console.show(step, metrics, kind)
        for logger in self.loggers:
            logger.log(step, metrics, kind)
        if kind == "train" and collectives.is_first():
            self._tell_observers(step, metrics, rollouts)

    def _tell_observers(self, step: int, metrics: Mapping[str, float], rollouts: Sequence[ScoredRollout]) -> None:
        """A plugin that fails at it is named, once; the run goes on."""
        failures = self.registry.tell("training_step_finished", step=step, metrics=metrics, rollouts=rollouts)
        for plugin, error in failures:
            if plugin not in self._failed_observers:
                self._failed_observers.add(plugin)
                self.console.message(
                    f"step {step}: training_step_finished of plugin {plugin.plugin!r} ({plugin}) raised "
                    f"{type(error).__name__}: {error}; the run goes on, and further failures of it are not told"
                )

    def keep_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Write some rollouts down."""
        self._append("samples.jsonl", [{"step": step, **sample} for sample in samples])

    def alarm(self, step: int, name: str, message: str) -> None:
        """Write an alarm down and tell it."""
        self._append("alarms.jsonl", [{"step": step, "name": name, "message": message}])
        self.console.message(f"step {step}: {message}")
        for logger in self.loggers:
            logger.alarm(step, name, message)

    def _append(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        if not collectives.is_first():
            return
        try:
            with (self.folder / name).open("ab") as stream:
                for record in records:
                    stream.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        except OSError as error:
            raise OutputError(f"{self.folder / name} can't be written: {error.strerror}") from None

    def rewind(self, step: int) -> None:
        """Take back what was written down after a step: it will be done again."""
        if not collectives.is_first():
            return
        for name in ("metrics.jsonl", "samples.jsonl", "alarms.jsonl"):
            file = self.folder / name
            if not file.exists():
                continue
            kept = [line for line in file.read_bytes().splitlines(keepends=True) if _step_of(line) <= step]
            write_file(file, b"".join(kept))
            if name == "metrics.jsonl":
                for record in map(orjson.loads, kept):
                    self.console.recall(_figures_of(record), record["kind"])

    def is_due(self, step: int, every: int) -> bool:
        """Whether something is to be done after so many steps: every so often, and at the end."""
        return step == self.total_steps or (every > 0 and step % every == 0)

    def save_model(self, save: Callable[[Path], None], name: str) -> Path:
        """Write the model to ``final`` or ``best``; all processes call ``save``, the first one writes."""
        path = self.folder / name
        if collectives.is_first():
            write_folder(path, save)
        else:
            save(path)
        collectives.wait()
        return path

    def offer_best(self, quality: float, save: Callable[[Path], None]) -> None:
        """Write the model to ``best`` if no evaluation has given a higher figure before; NaN, where nothing could be scored, is none."""
        is_better = not math.isnan(quality) and (self.best is None or quality > self.best)
        if collectives.is_true_anywhere(is_better):
            self.best = quality
            self.save_model(save, BEST)

    def take_back_best(self, best: float | None) -> None:
        """Be as when ``best`` was the highest figure: a model kept in ``best`` since then is gone, as all that came later."""
        path = self.folder / BEST
        if collectives.is_first() and self.best not in {None, best} and path.is_dir():
            remove_folder(path)
        collectives.wait()
        self.best = best if path.is_dir() else None

    def must_stop(self) -> bool:
        """Whether somebody asked any of the processes to end."""
        return collectives.is_true_anywhere(self.stop)

    def interrupted(self, step: int) -> Interrupted:
        """What to raise once everything is kept."""
        if step == 0:
            return Interrupted("stopped before the first step: run the same command again to begin anew")
        return Interrupted(
            f"stopped after step {step} of {self.total_steps}; all is kept in {self.checkpoints.folder}: "
            "run the same command again to go on"
        )

    def _place_to_go_on(self) -> str:
        """Where the same command would begin."""
        latest = self.checkpoints.latest()
        return "from the beginning" if latest is None else f"after step {step_of(latest)}"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def notice(number: int, _frame: FrameType | None) -> None:
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            if not self.stop:
                text = "finishing this step, then keeping everything; Ctrl-C again to leave at once"
                # Not in here: what prints may have been interrupted halfway through an import.
                threading.Thread(target=self.console.message, args=(text,)).start()
            self.stop = True

        with answering(notice, signal.SIGINT, signal.SIGTERM):
            yield

    def _report(self) -> None:
        """Draw what there is, however the run ended."""
        if not collectives.is_first():
            return
        try:
            write_report([self.folder], self.folder / "report.html")
        except RewardkitError as error:
            self.console.message(f"no report: {error}")


def seed_step(seed: int, step: int) -> None:
    """Make what a step draws (dropout, for one) depend on the run's seed and the step alone."""
    torch.manual_seed(step_seed(seed, step))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
