"""Keeps the alarms of a step, and which checkpoint was made without trouble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewardkit.train.config import MonitorsConfig
from rewardkit.train.monitoring.monitors import Alarm, Monitors


class AlarmResponse:
    """The pending alarms of a run, and the checkpoint that a rollback restores."""

    def __init__(self, config: MonitorsConfig, monitors: Monitors) -> None:
        self.rolls_back: bool = config.on_alarm == "rollback"
        self.monitors = monitors
        self.pending: list[Alarm] = []
        """The alarms of the current step."""
        self.calm_step = 0
        """The step of the latest checkpoint that was made while all metrics were within their bounds."""

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Check the metrics of a training step."""
        self.pending += self.monitors.watch(metrics)

    def take(self) -> list[Alarm]:
        """Return the pending alarms, and forget them."""
        found, self.pending = self.pending, []
        return found

    def note_checkpoint(self, step: int) -> None:
        """Remember a checkpoint as good if all metrics are within their bounds."""
        if self.monitors.is_calm:
            self.calm_step = step

    def state(self) -> dict[str, Any]:
        """Return the state as JSON data, for a checkpoint."""
        return {"monitors": self.monitors.state(), "calm_step": self.calm_step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state that ``state`` returned."""
        self.monitors.restore(state["monitors"])
        self.calm_step = state["calm_step"]
