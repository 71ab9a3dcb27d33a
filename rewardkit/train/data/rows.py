"""Rows of training data from JSONL and Parquet files, each with the place it came from. Needs no torch."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rewardkit.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands."""

    data: Mapping[str, Any]
    file: Path
    number: int
    """From 1: the line of a JSONL file, the row of a Parquet file."""

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.file}:{self.number}"

    def get(self, column: str) -> Any:
        """A column's value. Raises DataError where the row has none."""
        if self.data.get(column) is None:
            raise DataError(f"{self.place}: has no column {column!r}; there are {', '.join(self.data) or 'no columns'}")
        return self.data[column]


def read_rows(files: Sequence[Path]) -> list[Row]:
    """All rows of these files.

    Raises:
        DataError: A file can't be read, a line is no JSON object, or there are no rows at all.
    """
    rows = [row for file in files for row in _read(file)]
    if not rows:
        raise DataError(f"{' and '.join(map(str, files))}: no rows")
    return rows


def data_hash(files: Sequence[Path]) -> str:
    """Sixteen hexadecimal digits that stand for the content of the files."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read(file: Path) -> Iterator[Row]:
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _read_parquet(file)
        elif name.endswith((".jsonl", ".json", ".ndjson")):
            yield from _read_lines(file)
        else:
            raise DataError(f"{file}: training data are .jsonl, .jsonl.gz or .parquet files")
    except FileNotFoundError:
        raise DataError(f"there is no file {file}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{file}: can't be read: {error}") from None


def _read_lines(file: Path) -> Iterator[Row]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                data = orjson.loads(line.rstrip())
            except orjson.JSONDecodeError as error:
                raise DataError(f"{file}:{number}:{error.colno}: is no JSON: {error.msg}") from None
            if not isinstance(data, dict):
                raise DataError(f"{file}:{number}: is a {type(data).__name__}, not an object with columns")
            yield Row(data, file, number)


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(file) as reader:
            number = 0
            for batch in reader.iter_batches():
                for data in batch.to_pylist():
                    number += 1
                    yield Row(data, file, number)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: is no Parquet file: {error}") from None
