"""Summarises the rows that an earlier run wrote, so that a resumed run reports on all rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rewardkit.scoring.formats.decode import group_key, read_row
from rewardkit.scoring.formats.format import writer_of
from rewardkit.scoring.summary import Summary

_COLUMNS = ("prompt", "group", "reward", "reward_status")
_CELLS = ("value", "status", "kind", "reason")


def summarize_part(part: Path, kind: str, order: str, ends: Sequence[int], names: Sequence[str]) -> Summary:
    """Summarise the rows in a part."""
    summary = Summary.empty(names)
    if ends:
        batches = _reordered(part, ends[-1]) if order == "groups" else _batches(part, kind, ends, names)
        for rows in batches:
            summary.merge(summarize_rows(rows, names))
    return summary


def summarize_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Summary:
    """Summarise scored rows."""
    summary = Summary.empty(names)
    cells = {name: [row["components"][name] for row in rows] for name in names}
    summary.add(
        [group_key(row["prompt"]) if row.get("group") is None else row["group"] for row in rows],
        [row["reward"] for row in rows],
        [row["reward_status"] for row in rows],
        [[cell["value"] for cell in column] for column in cells.values()],
    )
    for name, column in cells.items():
        summary.add_outcomes(
            name,
            [cell["status"] for cell in column],
            [cell.get("kind") for cell in column],
            [cell["reason"] for cell in column],
        )
    return summary


def _batches(part: Path, kind: str, ends: Sequence[int], names: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    wanted = [*_COLUMNS, *(f"components.{name}.{cell}" for name in names for cell in _CELLS)]
    yield from writer_of(kind)[0].read_part(part, ends, wanted)


def _reordered(part: Path, end: int) -> Iterator[list[dict[str, Any]]]:
    from rewardkit.scoring.resume.restore_order import read_batches

    for batch in read_batches(part, end):
        rows = batch.column("row").to_pylist()
        yield [row if isinstance(row, dict) else read_row(row)[0] for row in rows]
