"""What a finished run has brought about, for the terminal: held-out figures before and after."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
from rich.table import Table

from rewardkit.train.monitoring.console import shown

LEFT_OUT = frozenset({"step", "kind", "always_shorter", "always_longer"})
"""What is no figure, or does not change by training."""


def held_out_changes(folder: Path) -> Table | None:
    """The figures of the first and the last evaluation of a run, without the ends of intervals.

    Args:
        folder: The run's.

    Returns:
        A table, or None where the run was evaluated less than twice.
    """
    records = [orjson.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
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
