"""Rows of training data with their places. Every file format that ``rewardkit score`` reads is read here. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError
from rewardkit.scoring.column_check import suggested_columns
from rewardkit.scoring.columns.paths import RowError, value_at
from rewardkit.scoring.formats.decode import read_row
from rewardkit.scoring.formats.readers import Input, find_inputs, read_blocks

MOST_NESTED = 200
"""The most paths into nested columns that are looked at for a suggestion."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row and its place."""

    data: Mapping[str, Any]
    file: Path
    number: int
    """From 1: the line of a text file, the row of a Parquet or Arrow file."""

    @property
    def place(self) -> str:
        """The file and the row, for messages."""
        return f"{self.file}:{self.number}"

    def find(self, column: str) -> Any:
        """Return the value of a column, or at a path into nested columns such as ``prompt.0.content``; None if there is none."""
        return value_at(self.data, column)

    def fields(self, prompt: str, nested: Sequence[str] = ()) -> dict[str, Any]:
        """Return what rewards read of the row: all columns except the prompt's, and the values at paths.

        Args:
            prompt: The column of the prompt.
            nested: The paths into nested columns that rewards read.
        """
        found = {name: value for name, value in self.data.items() if name != prompt}
        for path in nested:
            if path not in found and (value := self.find(path)) is not None:
                found[path] = value
        return found

    def get(self, column: str) -> Any:
        """Return the value of a column or at a path. Raises DataError if there is none."""
        if (value := self.find(column)) is None:
            raise DataError(f"{self.place}: there is no value in column {column!r}. {columns_hint(column, [self])}")
        return value


def columns_hint(column: str, rows: Iterable[Row]) -> str:
    """Return a sentence that lists the columns of some rows, and suggests one for a column that is missing."""
    names = list(dict.fromkeys(name for row in rows for name in row.data))
    paths = dict.fromkeys(path for row in rows for path in islice(_nested(row.data), MOST_NESTED))
    close = suggested_columns(column, [*(name for name in names if name != column), *paths])
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"Its columns are {', '.join(names) or 'none'}{hint}"


def find_files(files: Sequence[Path]) -> list[Input]:
    """Return the files that paths and globs name, each once.

    Raises:
        DataError: A path or glob names no file, a folder, a pipe, or a file that can't be read.
    """
    for file in files:
        if file.is_fifo():
            raise DataError(f"{file} is a pipe; training reads its data more than once, so write them to a file")
    return find_inputs([str(file) for file in files])


def read_rows(files: Sequence[Path]) -> list[Row]:
    """Return all rows of the files that paths and globs name.

    Raises:
        DataError: A file can't be read, a line is no JSON object, or there are no rows at all.
    """
    return list(iterate_rows(files))


def iterate_rows(files: Sequence[Path]) -> Iterator[Row]:
    """Yield all rows of the files that paths and globs name, so that they need not be in memory at once.

    Args:
        files: The paths and globs.

    Raises:
        DataError: A file can't be read, a line is no JSON object, or there are no rows at all.
    """
    is_empty = True
    for item in find_files(files):
        for row in _read(item):
            is_empty = False
            yield row
    if is_empty:
        raise DataError(f"{' and '.join(map(str, files))}: no rows")


def first_rows(item: Input, most: int) -> list[Row]:
    """Return the first rows of a file. Raises DataError if they can't be read."""
    return list(islice(_read(item), most))


def data_hashes(files: Sequence[Path]) -> dict[str, str]:
    """Return a hash of the content of each file that paths and globs name, by its absolute path."""
    return {str(item.path.absolute()): _hash(item.path) for item in find_files(files)}


def data_hash(files: Sequence[Path]) -> str:
    """Return one hash of the content of all files that paths and globs name, in their order."""
    return hashlib.blake2b("".join(data_hashes(files).values()).encode(), digest_size=8).hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _read(item: Input) -> Iterator[Row]:
    # `read_blocks` compares the state, too, but with advice for `rewardkit score`.
    for block in read_blocks(replace(item, state=None)):
        for number, raw in zip(block.numbers, block.rows, strict=True):
            try:
                data = read_row(raw)[0]
            except RowError as error:
                raise DataError(f"{item.name}:{number}: {error}") from None
            yield Row(data, item.path, number)
    if find_inputs([str(item.path)])[0].state != item.state:
        raise DataError(f"{item.name} changed while it was read; run the same command again once it stays as it is")


def _nested(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of values in nested mappings, and in the first items of lists."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:1])
    for key, item in items:
        if prefix:
            yield f"{prefix}{key}"
        yield from _nested(item, f"{prefix}{key}.")
