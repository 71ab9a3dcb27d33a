"""Sends metrics and alarms to TensorBoard and Weights & Biases, through the trackers of accelerate."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rewardkit.errors import RewardkitError, UsageError
from rewardkit.train.config import LogConfig


class Logger:
    """Sends the metrics and alarms of a run to one tracker of accelerate."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def log(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        """Log metrics under names such as train/reward and eval/accuracy.

        Args:
            step: Number of finished steps.
            metrics: The metrics by name. Values that are not finite are left out.
            kind: train or eval.
        """
        values = {f"{kind}/{name}": float(value) for name, value in metrics.items() if math.isfinite(value)}
        self.tracker.log(values, step=step)

    def alarm(self, step: int, name: str, message: str) -> None:
        """Log an alarm as text, or as an alert where the tracker has alerts."""
        if self.tracker.name == "wandb":
            self.tracker.tracker.alert(title=f"{name} at step {step}", text=message)
        else:
            self.tracker.log({f"alarm/{name}": message}, step=step)

    def close(self) -> None:
        """Flush and close the tracker."""
        self.tracker.finish()


def open_loggers(config: LogConfig, folder: Path, settings: Mapping[str, Any], first_step: int = 0) -> list[Logger]:
    """Open the configured loggers.

    Args:
        config: The section ``log``.
        folder: The run's folder.
        settings: The run's configuration, which W&B shows beside the metrics.
        first_step: Number of steps done before. TensorBoard hides what was logged later.

    Raises:
        UsageError: A package is not installed.
        RewardkitError: W&B refuses the run.
    """
    with ExitStack() as undo:
        found: list[Logger] = []
        if config.tensorboard:
            found.append(_open_tensorboard(folder, first_step))
            undo.callback(found[-1].close)
        if config.wandb is not None:
            found.append(_open_wandb(folder, config.wandb, settings))
        undo.pop_all()
        return found


def _open_tensorboard(folder: Path, first_step: int) -> Logger:
    """Write event files into the folder ``tensorboard`` of a run."""
    _require("tensorboard")
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker("tensorboard", folder, purge_step=first_step + 1 if first_step else 0)
    tracker.start()
    return Logger(tracker)


def _open_wandb(folder: Path, project: str, settings: Mapping[str, Any]) -> Logger:
    """Start a W&B run in the folder ``wandb`` of a run. A resumed run keeps its id."""
    _require("wandb")
    import wandb
    from accelerate.tracking import WandBTracker

    record = folder / "wandb" / "run-id"
    record.parent.mkdir(parents=True, exist_ok=True)
    known = record.read_text(encoding="utf-8").strip() if record.is_file() else None
    tracker = WandBTracker(
        project,
        name=folder.name,
        dir=str(folder),
        config=dict(settings),
        id=known,
        resume="allow" if known else None,
        settings=wandb.Settings(console="off", silent=True),  # its output would break the run's console
    )
    try:
        tracker.start()
    except wandb.errors.Error as error:
        raise RewardkitError(
            f"log.wandb: {str(error).rstrip('.')}; set WANDB_MODE=offline to keep the run on disk instead"
        ) from None
    record.write_text(tracker.run.id, encoding="utf-8")
    return Logger(tracker)


def _require(package: str) -> None:
    """Raise UsageError if a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"log.{package} needs {package}, which is not installed: pip install {package}")
