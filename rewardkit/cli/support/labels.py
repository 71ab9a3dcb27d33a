"""Checks labels before the rows that have them are scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rewardkit.errors import DataError


def check_labels(files: Sequence[str], label: str, by: str | None = None) -> None:
    """Check that every row of files has a label, before anything is scored. Streams, which can be read once only, are left out.

    Args:
        files: Rollouts with labels, as ``rewardkit score`` takes them.
        label: The column of the labels.
        by: A second column that every row must have.

    Raises:
        DataError: A row has no label, or one that says neither true nor false; names the file and the row.
    """
    from rewardkit.insight.noise import truth_of
    from rewardkit.toolkit import read_rows

    for place, row in read_rows([file for file in files if file != "-" and not Path(file).is_fifo()]):
        columns = ", ".join(row)
        if label not in row:
            raise DataError(
                f"{place} has no column {label!r}; name the column of the labels with --label-column. Columns are {columns}"
            )
        if by is not None and by not in row:
            raise DataError(f"{place} has no column {by!r}, which --by names; columns are {columns}")
        if truth_of(row[label]) is None:
            raise DataError(f"{place}: the label {row[label]!r} is not true, false, 1 or 0")
