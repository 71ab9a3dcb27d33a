"""Rows in the containers of other libraries: read as dicts, and given back with scores in a container of the same kind.

The libraries are not imported: whoever has a container of one has imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.config.paths import add_field_paths
from rewardkit.errors import UsageError
from rewardkit.types import Rollout, ScoredRollout

OWN_COLUMNS = ("reward", "reward_status", "reward_id", "components")
"""The columns that scoring adds. Those of an earlier scoring are replaced."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows, and how their scores are given back."""

    rows: Sequence[Mapping[str, Any]]
    with_columns: Callable[[dict[str, list[Any]]], Any]
    """Returns the container with the columns that scoring adds."""

    def scored(self, scored: Sequence[ScoredRollout]) -> Any:
        """Return the container with the scores of its rows, in the same order."""
        parts = [item.scores() for item in scored]
        return self.with_columns({name: [part[name] for part in parts] for name in OWN_COLUMNS})


def read_rows(data: Any) -> Rows:
    """Return the rows of a container.

    Args:
        data: A list of dicts or rollouts, one of them, a DataFrame of pandas or polars, a Dataset of Hugging Face, or a Table of Arrow.

    Raises:
        UsageError: It is something else.
    """
    library = type(data).__module__.partition(".")[0]
    match library, type(data).__name__:
        case "pandas", "DataFrame":
            records = [{name: _cell(value) for name, value in row.items()} for row in data.to_dict("records")]
            return Rows(records, lambda columns: _in_pandas(data, columns))
        case "polars", "DataFrame":
            return Rows(data.to_dicts(), lambda columns: data.with_columns(**_polars_columns(columns)))
        case "datasets", "Dataset":
            return Rows(list(data), lambda columns: _in_dataset(data, columns))
        case "pyarrow", "Table":
            return Rows(data.to_pylist(), lambda columns: _in_arrow(data, columns))
    if isinstance(data, Rollout | Mapping):
        row = _row(data)
        return Rows([row], lambda columns: _merged(row, columns, 0))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        rows = [_row(item) for item in data]
        return Rows(rows, lambda columns: [_merged(row, columns, index) for index, row in enumerate(rows)])
    raise UsageError(
        "score_rows() takes a list of dicts, one dict, a DataFrame, a Dataset or a Table, not "
        f"a {type(data).__module__}.{type(data).__name__}"
    )


def rollouts_of(rows: Sequence[Any], paths: Sequence[str]) -> list[Rollout]:
    """Return rows as rollouts; those that are rollouts stay as they are.

    Args:
        rows: Rollouts and rows.
        paths: Paths into nested columns, whose values are added to the fields.

    Raises:
        UsageError: A row can't be used. The message has its number, counted from 0.
    """
    made = []
    for index, item in enumerate(rows):
        if isinstance(item, Rollout):
            made.append(item)
            continue
        try:
            row = item
            if paths and isinstance(row, Mapping):
                row = dict(row)
                add_field_paths(row, paths)
            made.append(Rollout.from_row(row))
        except (TypeError, ValueError) as error:
            raise UsageError(f"row {index}: {error}") from error
    return made


def _cell(value: Any) -> Any:
    """Return a list for an array: pandas reads the lists of a Parquet file as arrays."""
    return value.tolist() if type(value).__name__ == "ndarray" else value


def _row(item: Any) -> Mapping[str, Any]:
    row = item.to_row() if isinstance(item, Rollout) else item
    if isinstance(row, Mapping) and any(name in row for name in OWN_COLUMNS):
        return {name: value for name, value in row.items() if name not in OWN_COLUMNS}
    return row  # what is no mapping is refused with its number


def _merged(row: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    return {**row, **{name: column[index] for name, column in columns.items()}}


def _in_pandas(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    found = frame.copy(deep=False)
    for name, column in columns.items():
        kind = "float64" if name == "reward" else "object" if name == "components" else None
        found[name] = pd.Series(list(column), index=found.index, dtype=kind)
    return found


def _polars_columns(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    import polars as pl  # type: ignore[import-not-found, unused-ignore]

    return {
        name: pl.Series(name, list(column), dtype=pl.Float64 if name == "reward" else None, strict=False)
        for name, column in columns.items()
    }


def _in_dataset(dataset: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    import pyarrow as pa

    found = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, column in columns.items():
        values = pa.array(column, pa.float64()) if name == "reward" else list(column)
        found = found.add_column(name, values)
    return found


def _in_arrow(table: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    import pyarrow as pa

    found = table.drop_columns([name for name in columns if name in table.column_names])
    for name, column in columns.items():
        found = found.append_column(name, pa.array(column, pa.float64() if name == "reward" else None))
    return found
