"""Labels of rows: a column of the data, or a file of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rewardkit.errors import DataError, UsageError

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False}


def labels_of(
    rows: Sequence[tuple[str, dict[str, Any]]],
    given: Sequence[tuple[str, dict[str, Any]]] | None,
    column: str,
    key: str | None,
    threshold: float | None,
    *,
    default: bool | None,
    is_limited: bool = False,
) -> list[bool]:
    """Return the label of each row.

    Args:
        rows: The data.
        given: The rows of the file of labels; None if the labels are a column of the data.
        column: The column of the labels.
        key: The column by which rows belong together; None for their order.
        threshold: Labels are numbers, true above this; None for true and false.
        default: The label of rows without one; None if every row needs one.
        is_limited: True if ``rows`` are only the first of the data.

    Raises:
        UsageError: The files do not fit together.
        DataError: A label is missing or can't be read.
    """
    if not rows:
        raise DataError("there are no rows to judge")
    if given is None:
        return [_label(place, row, column, threshold, default) for place, row in rows]
    if key is None:
        if len(given) < len(rows) or (len(given) > len(rows) and not is_limited):
            raise UsageError(
                f"there are {len(given):,} labels for {len(rows):,} rows; name a column of both files with --key"
            )
        return [_label(place, row, column, threshold, None) for (place, row), _ in zip(given, rows, strict=False)]
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in given:
        first, other = known.setdefault(json.dumps(row.get(key)), (place, row))
        if other.get(column) != row.get(column):
            raise DataError(f"{place}: {key} = {row.get(key)!r} has another label in {first}")
    found = []
    for place, row in rows:
        if key not in row:
            raise DataError(f"{place} has no column {key!r}, which --key names; columns are {', '.join(row)}")
        if (label := known.get(json.dumps(row[key]))) is None:
            raise DataError(f"{place}: no row of the labels has {key} = {row[key]!r}")
        found.append(_label(*label, column, threshold, None))
    return found


def _label(place: str, row: dict[str, Any], column: str, threshold: float | None, default: bool | None) -> bool:
    if column not in row:
        if default is not None:
            return default
        raise DataError(
            f"{place} has no column {column!r}; name the column of the labels with --label-column, or their file with "
            f"--labels. Columns are {', '.join(row)}"
        )
    value = row[column]
    if threshold is not None:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            raise DataError(f"{place}: the label {value!r} is no number")
        return number > threshold
    verdict = _TRUTH.get(str(value).strip().lower())
    if verdict is None:
        raise DataError(f"{place}: the label {value!r} is not true, false, 1 or 0; for numbers, give --label-threshold")
    return verdict
