"""Rows of training data with their places. Every file format that ``rewardkit score`` reads is read here. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError, UsageError
from rewardkit.scoring.column_check import suggested_columns
from rewardkit.scoring.columns.paths import RowError, value_at
from rewardkit.scoring.formats.decode import read_row
from rewardkit.scoring.formats.readers import Input, find_inputs, read_blocks
from rewardkit.train.config import RowSource, Source
from rewardkit.train.config.base import HUB

HASHED_ROWS = 1000
"""The rows of a streamed data set by which it is recognised."""
MOST_NESTED = 200
"""The most paths into nested columns that are looked at for a suggestion."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row and its place."""

    data: Mapping[str, Any]
    file: Path
    """The file, or the name of the data set on the hub."""
    number: int
    """From 1: the line of a text file, the row of a Parquet or Arrow file."""
    source: int = 0
    """The number of the source, from 0, in the order of the configuration."""

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


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows, or a data set on the hub that is streamed."""

    name: str
    origin: Input | RowSource
    source: int
    """The number of the source that it belongs to, from 0."""
    most_rows: int | None = None
    """The most rows that are read of the source."""


def find_files(sources: Sequence[Source]) -> list[RowFile]:
    """Return the files that sources name, each once. The files of a data set on the hub are downloaded, unless it is streamed.

    Raises:
        DataError: A path or glob names no file, a folder, a pipe, or a file that can't be read; or a data set can't be loaded.
        UsageError: A name on the hub needs `datasets`, which is not installed.
    """
    found: dict[str | Path, RowFile] = {}
    for number, source in enumerate(sources):
        limit = source.rows if isinstance(source, RowSource) else None
        if isinstance(source, RowSource) and source.hub is not None and (source.streaming or Path(source.hub).is_dir()):
            found.setdefault(str(source), RowFile(str(source), source, number, limit))
            continue
        path = source if isinstance(source, Path) else source.path
        if path is not None and path.is_fifo():
            raise DataError(f"{path} is a pipe; training reads its data more than once, so write them to a file")
        items = find_inputs([str(source)])
        for item in items:
            found.setdefault(item.path.resolve(), RowFile(item.name, item, number, limit))
    return list(found.values())


def read_rows(sources: Sequence[Source]) -> list[Row]:
    """Return all rows of sources.

    Raises:
        DataError: A file can't be read, a line is no JSON object, or there are no rows at all.
    """
    return list(iterate_rows(sources))


def iterate_rows(sources: Sequence[Source]) -> Iterator[Row]:
    """Yield all rows of sources, in the order of the sources, so that they need not be in memory at once.

    Args:
        sources: The paths, globs and data sets.

    Raises:
        DataError: A file can't be read, a line is no JSON object, or there are no rows at all.
    """
    counts: dict[int, int] = {}
    for file in find_files(sources):
        before = counts.get(file.source, 0)
        for count, row in enumerate(
            islice(_read(file), None if file.most_rows is None else file.most_rows - before), 1
        ):
            counts[file.source] = before + count
            yield row
    if not counts:
        raise DataError(f"{' and '.join(map(str, sources))}: no rows")


def first_rows(file: RowFile, most: int) -> list[Row]:
    """Return the first rows of a file. Raises DataError if they can't be read."""
    return list(islice(_read(file), most if file.most_rows is None else min(most, file.most_rows)))


def data_hashes(sources: Sequence[Source]) -> dict[str, str]:
    """Return a hash of the content of each file of sources, by its absolute path, or by its name if it is from the hub.

    Of a data set that is streamed, the first rows are hashed.
    """
    return dict(_hash(file) for file in find_files(sources))


def data_hash(sources: Sequence[Source]) -> str:
    """Return one hash of the content of all files of sources, in their order."""
    return hashlib.blake2b("".join(data_hashes(sources).values()).encode(), digest_size=8).hexdigest()


def _hash(file: RowFile) -> tuple[str, str]:
    if isinstance(file.origin, RowSource):
        content = b"".join(json.dumps(row.data, default=str).encode() for row in first_rows(file, HASHED_ROWS))
        return file.name, hashlib.blake2b(content, digest_size=8).hexdigest()
    with file.origin.path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    return file.name if file.name.startswith(HUB) else str(file.origin.path.absolute()), found


def _read(file: RowFile) -> Iterator[Row]:
    origin = file.origin
    return _stream(file, origin) if isinstance(origin, RowSource) else _read_input(file, origin)


def _read_input(file: RowFile, item: Input) -> Iterator[Row]:
    place = Path(file.name) if file.name.startswith(HUB) else item.path
    # `read_blocks` compares the state, too, but with advice for `rewardkit score`.
    for block in read_blocks(replace(item, state=None)):
        for number, raw in zip(block.numbers, block.rows, strict=True):
            try:
                data = read_row(raw)[0]
            except RowError as error:
                raise DataError(f"{item.name}:{number}: {error}") from None
            yield Row(data, place, number, file.source)
    if find_inputs([str(item.path)])[0].state != item.state:
        raise DataError(f"{item.name} changed while it was read; run the same command again once it stays as it is")


def _stream(file: RowFile, source: RowSource) -> Iterator[Row]:
    """Yield the rows of a data set that `datasets` reads."""
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{file.name} needs datasets: pip install 'rewardkit[datasets]'") from None
    try:
        found = datasets.load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision, streaming=source.streaming
        )
        for number, data in enumerate(found, 1):
            yield Row(data, Path(file.name), number, file.source)
    # The boundary: what fails may come from any of the libraries for files, networks and formats behind it.
    except Exception as error:
        raise DataError(f"{file.name} can't be read: {type(error).__name__}: {error}") from error


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
