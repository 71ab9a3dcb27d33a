"""Reading the rows of a scored file in batches of columns, and checking that they are what ``rewardkit score`` writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from rewardkit.errors import DataError
from rewardkit.scoring.columns.columns import is_chat, kind_of
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode import group_of_row, read_row
from rewardkit.scoring.formats.readers import find_inputs, read_blocks

BATCH_ROWS = 16_384
NUMBERS = ("value", "contribution")
"""The fields of a component that hold a number or null."""

Columns: TypeAlias = dict[str, list[Any]]


def read_batches(path: Path, columns: Sequence[str] | None, parts: Sequence[str] = ()) -> Iterator[Columns]:
    """Yield batches of rows as lists by column; of ``columns``, those that the file lacks are filled with None.

    Args:
        path: A Parquet or JSON Lines file (also compressed), or a folder for datasets.
        columns: The columns to read; all if None.
        parts: The fields of a component that are read, where ``columns`` asks for components of a Parquet file.

    Raises:
        DataError: The file can't be read, or a row is not one that ``rewardkit score`` writes; names the row.
    """
    try:
        if path.is_dir():
            batches = _folder_batches(path)
        elif path.suffix == ".parquet":
            batches = _parquet_batches(path, columns, parts)
        else:
            batches = _json_batches(path)
        for places, batch in batches:
            _check(path, places, batch)
            length = len(places)
            wanted = list(batch) if columns is None else columns
            yield {name: batch.get(name) or [None] * length for name in wanted}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read: {error}") from error


def _check(path: Path, places: Sequence[int], batch: Columns) -> None:
    """Check the columns that a scored file has. Raises DataError with the line or row of the first bad value."""
    for name, is_wanted in CHECKS.items():
        if name not in batch:
            continue
        for place, value in zip(places, batch[name], strict=True):
            if (wanted := is_wanted(value)) is not None:
                raise DataError(f"{path}:{place}: {wanted}; `rewardkit score` writes no such row")


def _reward_problem(value: Any) -> str | None:
    return None if _is_number(value) else f"'reward' must be a finite number or null, and is {kind_of(value)}"


def _tokens_problem(value: Any) -> str | None:
    return None if _is_number(value) else f"'num_tokens' must be a number or null, and is {kind_of(value)}"


def _text_problem(name: str, value: Any) -> str | None:
    if isinstance(value, str) or (isinstance(value, list) and is_chat(value)):
        return None
    return f"{name!r} must be text or a list of chat messages, and is {kind_of(value)}"


def _group_problem(value: Any) -> str | None:
    try:
        group_of_row(value)
    except RowError as error:
        return str(error)
    return None


def _components_problem(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return f"'components' must be an object with one object per component, and is {kind_of(value)}"
    for name, part in value.items():
        if part is None:
            continue
        if not isinstance(part, Mapping):
            return f"component {name!r} must be an object, and is {kind_of(part)}"
        for key in NUMBERS:
            if not _is_number(part.get(key)):
                return f"{key!r} of component {name!r} must be a finite number or null, and is {kind_of(part[key])}"
    return None


def _is_number(value: Any) -> bool:
    """Return whether a value is missing (pandas writes NaN for null) or a number that a float can hold."""
    if value is None:
        return True
    if type(value) is float:
        return not math.isinf(value)
    return isinstance(value, int) and abs(value) < 1 << 1023


CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "prompt": partial(_text_problem, "prompt"),
    "completion": partial(_text_problem, "completion"),
    "group": _group_problem,
    "reward": _reward_problem,
    "components": _components_problem,
    "num_tokens": _tokens_problem,
}


def _parquet_batches(
    path: Path, columns: Sequence[str] | None, parts: Sequence[str]
) -> Iterator[tuple[Sequence[int], Columns]]:
    done = 0
    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        if "reward" not in names:
            raise DataError(f"{path} has no column 'reward': score it first with `rewardkit score`")
        read = None
        if columns is not None:
            read = [name for name in columns if name in names and name != "components"]
            if "components" in names:
                read += _component_columns(path, file.schema_arrow.field("components").type, parts)
        for batch in file.iter_batches(BATCH_ROWS, columns=read):
            data = {name: batch.column(name).to_pylist() for name in batch.schema.names}
            yield range(done + 1, done + batch.num_rows + 1), data
            done += batch.num_rows


def _component_columns(path: Path, components: pa.DataType, parts: Sequence[str]) -> list[str]:
    """Return the columns of a Parquet file that hold ``parts`` of its components. Raises DataError."""
    is_struct = pa.types.is_struct
    if pa.types.is_null(components):
        return []
    if not is_struct(components) or not all(is_struct(component.type) for component in components):
        raise DataError(f"{path}: 'components' must hold one struct per component, and has the type {components}")
    return [f"components.{component.name}.{part}" for component in components for part in parts]


def _folder_batches(path: Path) -> Iterator[tuple[Sequence[int], Columns]]:
    done = 0
    for item in find_inputs([str(path)]):
        for block in read_blocks(item):
            rows = [read_row(row)[0] for row in block.rows]
            yield range(done + 1, done + len(rows) + 1), _by_column(rows)
            done += len(rows)


def _json_batches(path: Path) -> Iterator[tuple[Sequence[int], Columns]]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    with pa.input_stream(path, compression="detect") as stream:
        for number, line in enumerate(_lines(stream), 1):
            if not line.strip():
                continue
            try:
                row = read_row(line)[0]
            except RowError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            if "reward" not in row:
                raise DataError(f"{path}:{number} has no 'reward': score the file first with `rewardkit score`")
            rows.append(row)
            numbers.append(number)
            if len(rows) == BATCH_ROWS:
                yield numbers, _by_column(rows)
                rows, numbers = [], []
    if rows:
        yield numbers, _by_column(rows)


def _lines(stream: Any) -> Iterator[bytes]:
    """Yield the lines of a stream, empty ones too."""
    tail = b""
    for block in iter(partial(stream.read, 1 << 20), b""):
        *lines, tail = (tail + block).split(b"\n")
        yield from lines
    yield tail


def _by_column(rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
