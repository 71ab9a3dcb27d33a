"""Rows of training data, each with the place it came from: every file format that `rewardkit score` reads. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError
from rewardkit.scoring.formats.decode import RowError, read_row
from rewardkit.scoring.formats.readers import find_inputs, read_blocks


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
    [item] = find_inputs([str(file)])
    for block in read_blocks(item):
        for number, raw in zip(block.numbers, block.rows, strict=True):
            try:
                data = read_row(raw)[0]
            except RowError as error:
                raise DataError(f"{file}:{number}: {error}") from None
            yield Row(data, file, number)
