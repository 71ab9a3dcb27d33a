"""Parquet files of other systems: the completions that TRL's trainers log, and rows with a prompt, a completion and a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardkit.errors import DataError
from rewardkit.view.adapters.lines import Rows

TRL = "completions of TRL"
_FIXED = frozenset({"step", "prompt", "completion", "advantage"})


def kind_of(names: set[str]) -> str | None:
    """Return the kind of a Parquet file by its columns, or None if it can't be shown."""
    return TRL if {"step", "prompt", "completion"} <= names else None


def rows(path: Path, at: int = 0) -> Rows:  # noqa: ARG001 - a Parquet file is read whole
    """Yield the completions of a file that TRL wrote as scored rows: numeric columns are rewards, and their sum is the reward.

    Raises:
        DataError: The file can't be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = [
                field.name
                for field in file.schema_arrow
                if field.name not in _FIXED and (pa.types.is_floating(field.type) or pa.types.is_null(field.type))
            ]
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    yield _scored(row, names), 0
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read: {error}") from error


def _scored(row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    values = {name: row[name] if _is_number(row[name]) else None for name in names}
    known = [value for value in values.values() if value is not None]
    return {
        **{name: value for name, value in row.items() if name not in values},
        "reward": sum(known) if known else None,
        "reward_status": "scored" if known else "unscored",
        "components": {
            name: {"value": value, "status": "scored" if value is not None else "not_applicable"}
            for name, value in values.items()
        },
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
