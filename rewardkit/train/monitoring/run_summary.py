"""Summarises a finished run for the terminal: held-out metrics before and after training."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from rewardkit.train.monitoring.console import shown
from rewardkit.train.run_folder import read_metrics

LEFT_OUT = frozenset({"step", "kind", "always_shorter", "always_longer"})
"""Keys that are not metrics, and metrics that training does not change."""


def held_out_changes(folder: Path) -> Table | None:
    """Compare the metrics of the first and the last evaluation of a run.

    Args:
        folder: The run's folder.

    Returns:
        A table, or None if the run was evaluated less than twice.
    """
    records = read_metrics(folder)
    evaluations = [record for record in records if record["kind"] == "eval"]
    if len(evaluations) < 2:
        return None
    first, last = evaluations[0], evaluations[-1]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("held out")
    for record in (first, last):
        table.add_column(f"step {record['step']}", justify="right")
    table.add_column("change", justify="right")
    for name in (name for name in last if name not in LEFT_OUT and not name.endswith(("_low", "_high"))):
        old, new = _number(first.get(name)), _number(last[name])
        change = new - old
        table.add_row(name, _shown(old), _shown(new), f"{change:+.4g}" if math.isfinite(change) else "")
    return table


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else shown(value)
