"""Where a run's figures go beside its own files: TensorBoard and Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from rewardkit.errors import RewardkitError, UsageError
from rewardkit.train.config import LogConfig


class Logger(Protocol):
    """Takes figures and alarms."""

    def log(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        """Take the figures of a step; ``kind`` is train or eval."""
        ...

    def alarm(self, step: int, name: str, message: str) -> None:
        """Take an alarm."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class TensorBoard:
    """Event files in the folder ``tensorboard`` of a run; what was written there after the step that it goes on from is hidden."""

    def __init__(self, folder: Path, first_step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415 - optional
        except ImportError:
            raise UsageError("log.tensorboard needs tensorboard: pip install tensorboard") from None
        self._writer: Any = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1 if first_step else 0)  # type: ignore[no-untyped-call,unused-ignore]

    def log(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        """Scalars, named as in train/reward and eval/accuracy."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def alarm(self, step: int, name: str, message: str) -> None:
        """A text, named by the monitor."""
        self._writer.add_text(f"alarm/{name}", message, step)

    def close(self) -> None:
        """Everything is on disk after this."""
        self._writer.close()


class WandB:
    """A Weights & Biases run, in the folder ``wandb`` of ours. WANDB_MODE=offline keeps it there; a resumed run goes on with its id."""

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb  # noqa: PLC0415 - optional
        except ImportError:
            raise UsageError("log.wandb needs wandb: pip install wandb") from None
        self._wandb: Any = wandb
        record = folder / "wandb" / "run-id"
        record.parent.mkdir(parents=True, exist_ok=True)
        known = record.read_text(encoding="utf-8").strip() if record.is_file() else None
        try:
            self._run: Any = wandb.init(
                project=project,
                name=folder.name,
                dir=str(folder),
                config=dict(config),
                id=known,
                resume="allow" if known else None,
                # It must not write between the lines of our own view.
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.errors.Error as error:
            raise RewardkitError(
                f"log.wandb: {str(error).rstrip('.')}; WANDB_MODE=offline keeps the run on disk instead"
            ) from None
        record.write_text(self._run.id, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        """Figures, named as in train/reward and eval/accuracy."""
        self._run.log({f"{kind}/{name}": value for name, value in metrics.items() if math.isfinite(value)}, step=step)

    def alarm(self, step: int, name: str, message: str) -> None:
        """An alert, which W&B sends to who wants it."""
        self._run.alert(title=f"{name} at step {step}", text=message, level=self._wandb.AlertLevel.WARN)

    def close(self) -> None:
        """Everything is sent, or on disk."""
        self._run.finish()


def open_loggers(config: LogConfig, folder: Path, settings: Mapping[str, Any], first_step: int = 0) -> list[Logger]:
    """What the configuration asks for.

    Args:
        config: The section ``log``.
        folder: Of the run.
        settings: The run's configuration, to be shown beside its figures.
        first_step: How many steps were done before.

    Raises:
        UsageError: A package is missing.
        RewardkitError: W&B refuses.
    """
    with ExitStack() as undo:
        found: list[Logger] = []
        if config.tensorboard:
            found.append(TensorBoard(folder, first_step))
            undo.callback(found[-1].close)
        if config.wandb is not None:
            found.append(WandB(folder, config.wandb, settings))
        undo.pop_all()
        return found
