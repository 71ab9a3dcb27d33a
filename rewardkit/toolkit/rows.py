"""Rows of files, in every format that ``rewardkit score`` reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rewardkit.errors import DataError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode import read_row
from rewardkit.scoring.formats.readers import Reader, find_inputs
from rewardkit.scoring.transform import Row


def read_rows(
    files: Sequence[str], *, maps: Sequence[str] = (), parse: Sequence[str] = (), split: bool = False
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of files, each with its place, such as ``rows.jsonl:3``.

    Args:
        files: Paths, globs, data set folders, or ``-``.
        maps: Renames columns, as ``--map`` does: ``NEW=OLD`` or ``@PRESET``.
        parse: Columns whose text is JSON, as ``--parse``.
        split: Yield one row per completion, without the columns of an earlier score.

    Raises:
        DataError: A file or a row can't be read.
        UsageError: A rename has another form.
    """
    columns = Columns.parse(maps, (), parse)
    for chunk in Reader(find_inputs(files)).chunks():
        for index, raw in enumerate(chunk.rows):
            try:
                row, _ = read_row(raw)
                found = list(columns.rows(row)) if split else [columns.rename(row)]
            except RowError as error:
                raise DataError(f"{chunk.where(index)}: {error}") from None
            for each in found:
                yield chunk.where(index), each


def map_row(row: Row, *, maps: Sequence[str] = (), parse: Sequence[str] = ()) -> list[Row]:
    """Return one row per completion of a row, with its columns renamed.

    Args:
        row: The row.
        maps: Renames columns, as ``--map`` does.
        parse: Columns whose text is JSON, as ``--parse``.

    Raises:
        RowError: The row lacks a column, or can't be split.
        UsageError: A rename has another form.
    """
    return list(Columns.parse(maps, (), parse).rows(row))
