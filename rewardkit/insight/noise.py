"""The error rates of a verifier, estimated from labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rewardkit.errors import DataError

Z_95 = 1.959964
"""The 97.5 % quantile of the normal distribution."""

_LABELS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False}


def truth_of(label: Any) -> bool | None:
    """Return what a label says: true or false, 1 or 0, yes or no, also as text; None if it is none of these."""
    return _LABELS.get(str(label).strip().lower())


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of rows, with its 95 % interval (Wilson's score interval, Wilson 1927)."""

    count: int
    total: int

    @property
    def share(self) -> float | None:
        """The observed share; None where there are no rows."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper end; 0 and 1 where there are no rows."""
        if not self.total:
            return 0.0, 1.0
        share, z2 = self.count / self.total, Z_95**2
        middle = share + z2 / (2 * self.total)
        half = Z_95 * math.sqrt(share * (1 - share) / self.total + z2 / (4 * self.total**2))
        scale = 1 + z2 / self.total
        return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """The error rates of a reward on labelled rows."""

    false_positives: Rate
    """The rate of accepted rows among those labelled false."""
    false_negatives: Rate
    """The rate of rejected rows among those labelled true."""
    unscored: Rate
    """The rate of unscored rows. They count neither as accepted nor as rejected."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row with its label and the verifier's value."""

    number: int
    """The row's number in the file, counted from 1."""
    label: bool
    value: float | None
    """The value of the reward or component; None where it could not be scored."""
    group: str
    """The class of rows that it belongs to."""


def labelled_rows(
    rows: Iterable[Mapping[str, Any]], *, label: str, component: str | None, by: str | None
) -> list[LabelledRow]:
    """Read labels and values from scored rows.

    Args:
        rows: Rows that ``rewardkit score`` wrote, with their labels.
        label: The column of the label: true or false, 1 or 0.
        component: The component whose error rates are wanted; the reward itself if None.
        by: A column that divides the rows into classes.

    Raises:
        DataError: A row has no label, or one that can't be read; there is no such component or column.
    """
    found = []
    for number, row in enumerate(rows, 1):
        if label not in row:
            raise DataError(
                f"row {number:,} has no column {label!r}; name the column of the labels with --label-column"
            )
        if by is not None and by not in row:
            raise DataError(f"row {number:,} has no column {by!r}")
        verdict = truth_of(row[label])
        if verdict is None:
            raise DataError(f"row {number:,}: the label {row[label]!r} is not true, false, 1 or 0")
        parts = row.get("components") or {}
        if component is not None and component not in parts:
            raise DataError(f"there is no component {component!r}; the reward has {', '.join(parts)}")
        value = row["reward"] if component is None else (parts[component] or {}).get("value")
        found.append(LabelledRow(number, verdict, value, "" if by is None else str(row[by])))
    return found


def error_rates(rows: Iterable[LabelledRow], threshold: float) -> ErrorRates:
    """Estimate the error rates of a reward that accepts a row if its value exceeds a threshold."""
    wrong = right = accepted_wrong = rejected_right = unscored = total = 0
    for row in rows:
        total += 1
        if row.value is None:
            unscored += 1
        elif row.label:
            right += 1
            rejected_right += row.value <= threshold
        else:
            wrong += 1
            accepted_wrong += row.value > threshold
    return ErrorRates(Rate(accepted_wrong, wrong), Rate(rejected_right, right), Rate(unscored, total))
