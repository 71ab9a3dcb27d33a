"""Reads what a run's folder says about the run: configuration, metrics, alarms, rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError
from rewardkit.insight.svg_chart import Point
from rewardkit.train.config.monitors import MONITORS
from rewardkit.train.run_folder import FINAL, read_json, read_lines, read_metrics

NOT_DRAWN = frozenset({"step", "kind", "tokens", "groups", "prompts_sampled"})
"""Keys of ``metrics.jsonl`` that have no chart."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run."""

    name: str
    record: Mapping[str, Any]
    """The content of ``config.json``."""
    metrics: Mapping[str, Mapping[str, list[Point]]]
    """(step, value) points by kind (train, eval) and name of the metric."""
    alarms: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any] | None
    """The content of ``evaluation.json``, which reward models have."""
    has_final_model: bool

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read a run's folder.

        Raises:
            DataError: The folder does not hold a run, or a file in it can't be read.
        """
        record = read_json(folder / "config.json")
        if record is None:
            raise DataError(f"{folder} is not the folder of a training run: it has no config.json")
        metrics: dict[str, dict[str, list[Point]]] = {"train": {}, "eval": {}}
        for line in read_metrics(folder):
            for name, value in line.items():
                if name not in NOT_DRAWN and isinstance(value, int | float):
                    metrics.setdefault(line["kind"], {}).setdefault(name, []).append((line["step"], value))
        return cls(
            folder.resolve().name,
            record,
            metrics,
            read_lines(folder / "alarms.jsonl"),
            read_lines(folder / "samples.jsonl"),
            read_json(folder / "evaluation.json"),
            (folder / FINAL).is_dir(),
        )

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration."""
        found: Mapping[str, Any] = self.record.get("config", {})
        return found

    @property
    def stage(self) -> str:
        """The stage's name."""
        return str(self.config.get("stage", ""))

    @property
    def model(self) -> str:
        """The model that was trained: the end of its path."""
        path = str((self.config.get("model") or {}).get("path", ""))
        return str(Path(*Path(path).parts[-2:])) if path else ""

    @property
    def reward(self) -> str:
        """The names of the reward's components; empty in a stage without a reward."""
        found = self.record.get("reward") or {}
        composites = found.get("composites") or {"": found}
        return ", ".join(dict.fromkeys(name for part in composites.values() for name in part.get("components") or {}))

    @property
    def steps(self) -> int:
        """The number of finished steps."""
        return int(max((points[-1][0] for of in self.metrics.values() for points in of.values()), default=0))

    @property
    def status(self) -> str:
        """The progress of the run, in words."""
        total = self.record.get("total_steps")
        of_total = f"{self.steps:,} steps" if total is None else f"{self.steps:,} of {total:,} steps"
        if self.has_final_model and (total is None or self.steps >= total) and not self.was_ended_by_an_alarm:
            return f"finished: {of_total}"
        if self.was_ended_by_an_alarm:
            return f"ended by an alarm: {of_total}"
        return f"interrupted or still running: {of_total}"

    @property
    def was_ended_by_an_alarm(self) -> bool:
        """True if an alarm ended the run."""
        on_alarm = (self.config.get("monitors") or {}).get("on_alarm")
        return bool(self.alarms) and on_alarm in {"stop", "rollback"}

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        return {name for of in self.metrics.values() for name in of}

    def points(self, name: str, kind: str) -> list[Point]:
        """Return the points of one metric; ``kind`` is train or eval."""
        return self.metrics.get(kind, {}).get(name, [])


def alarm_metrics(alarm: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that an alarm is about."""
    if "metrics" in alarm:
        return tuple(alarm["metrics"])
    return next((monitor.metrics for monitor in MONITORS if monitor.name == alarm["name"]), ())
