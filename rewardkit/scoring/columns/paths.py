"""Paths into nested columns, such as ``reward_model.ground_truth``, ``prompt.0.content`` and ``choices.*.message.content``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rewardkit.config.paths import EACH, walk

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "EACH",
    "MapError",
    "RowError",
    "changed_at",
    "is_list",
    "is_struct",
    "look_up",
    "suggestion",
    "type_at",
    "value_at",
    "walk",
]


class RowError(ValueError):
    """A row can't be used."""


class MapError(RowError):
    """A row lacks what ``--map`` reads, or has a column of the new name: most likely the option is wrong, and not the row."""


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a column, or at a path into nested columns; None if there is none.

    Args:
        row: The row.
        path: The column or path.
    """
    if path in row:
        return row[path]
    try:
        return walk(row, path)
    except KeyError:
        return None


def look_up(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a column or at a path that ``--map`` names.

    Args:
        row: The row.
        path: The column or path.

    Raises:
        MapError: There is no value.
    """
    if path in row:
        return row[path]
    try:
        return walk(row, path)
    except KeyError:
        raise MapError(f"there is no value at {path!r}, which --map reads{suggestion(path, row)}") from None


def changed_at(row: Mapping[str, Any], path: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of a row in which the value of a column or at a path is changed.

    Args:
        row: The row.
        path: The column or path; ``*`` and numbers go into lists.
        change: Returns the new value of an old one.

    Raises:
        KeyError: There is no value.
    """
    if path in row:
        return {**row, path: change(row[path])}
    first, _, rest = path.partition(".")
    if not rest or first not in row:
        raise KeyError(path)
    return {**row, first: _changed(row[first], rest, change)}


def _changed(value: Any, path: str, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    first, _, rest = path.partition(".")
    if isinstance(value, Mapping) and first in value:
        return {**value, first: _changed(value[first], rest, change)}
    if isinstance(value, list) and first == EACH:
        return [_changed(item, rest, change) for item in value]
    if isinstance(value, list) and first.isdigit() and int(first) < len(value):
        return [_changed(item, rest, change) if index == int(first) else item for index, item in enumerate(value)]
    raise KeyError(path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return which known name was perhaps meant, as the end of a message; empty if none is close.

    Args:
        name: What was found.
        known: What there is.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def type_at(types: Mapping[str, pa.DataType], path: str) -> pa.DataType | None:
    """Return the Arrow type of the values at a path; None if it is unknown.

    Args:
        types: The type of each column.
        path: The column or path.
    """
    if path in types:
        return types[path]
    first, _, rest = path.partition(".")
    return _inner_type(types[first], rest) if rest and first in types else None


def _inner_type(kind: pa.DataType, path: str) -> pa.DataType | None:
    import pyarrow as pa

    if not path:
        return kind
    first, _, rest = path.partition(".")
    if is_list(kind) and (first == EACH or first.lstrip("-").isdigit()):
        inner = _inner_type(kind.value_type, rest)
        return inner if inner is None or first != EACH else pa.list_(inner)
    if not is_struct(kind) or kind.get_field_index(first) < 0:
        return None
    return _inner_type(kind.field(first).type, rest)


def is_struct(kind: Any) -> bool:
    """Return whether an Arrow type is a struct."""
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def is_list(kind: Any) -> bool:
    """Return whether an Arrow type is a list."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
