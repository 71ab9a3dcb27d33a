"""The folder of a training run: its saved rollouts, metrics, alarms and configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewardkit.errors import DataError
from rewardkit.view.adapters.lines import Rows, json_document, json_lines

SAMPLES, METRICS, ALARMS, CONFIG = "samples.jsonl", "metrics.jsonl", "alarms.jsonl", "config.json"


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a training run."""
    return (folder / METRICS).is_file() or (folder / SAMPLES).is_file()


def rows(path: Path, at: int = 0) -> Rows:
    """Yield the saved rollouts of a run as scored rows. Raises DataError."""
    if not path.is_file():
        return
    for record, end in json_lines(path, at):
        row = {name: value for name, value in record.items() if name != "tokens"}
        yield row | {"num_tokens": record.get("tokens")}, end


def metrics(folder: Path) -> dict[str, Any]:
    """Return the curves of a run, its alarms and its stage.

    Returns:
        ``series``: by kind (``train``, ``eval``) and metric a list of (step, value); ``alarms``: as in the file; ``stage``.

    Raises:
        DataError: A file can't be read.
    """
    series: dict[str, dict[str, list[tuple[int, float | None]]]] = {}
    for record in _lines(folder / METRICS):
        step, kind = record.get("step"), str(record.get("kind", "train"))
        if not isinstance(step, int):
            continue
        for name, value in record.items():
            if name not in {"step", "kind"} and isinstance(value, (int, float)):
                series.setdefault(kind, {}).setdefault(name, []).append((step, float(value)))
    stage = ""
    if (folder / CONFIG).is_file():
        try:
            config = json_document(folder / CONFIG)
        except DataError:  # the run may be writing it
            config = {}
        stage = str((config.get("config") or {}).get("stage", "")) if isinstance(config, dict) else ""
    return {"series": series, "alarms": _lines(folder / ALARMS), "stage": stage}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [record for record, _ in json_lines(path)] if path.is_file() else []
