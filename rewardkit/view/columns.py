"""The columns of a source that can be sorted and filtered by, and the SQL conditions that requests ask for.

A request names a column by its id, an operator of a fixed list and a value. Ids are looked up, and values are bound as parameters, so
no text of a request becomes SQL. Names that come from a file are quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from rewardkit.errors import UsageError

Kind: TypeAlias = Literal["number", "text"]
Condition: TypeAlias = tuple[str, list[Any]]
"""A SQL condition and its parameters."""

COMPARISONS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "=", "!=": "IS DISTINCT FROM"}
OPERATORS = (*COMPARISONS, "contains", "missing", "present")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source."""

    id: str
    """How requests name it: ``reward``, ``length``, ``component:NAME``, ``status:NAME``, ``field:NAME``."""
    title: str
    """Its heading."""
    kind: Kind
    sql: str
    """The expression of its value."""
    role: str = "field"
    """``main``, ``component``, ``status`` or ``field``."""


def identifier(name: str) -> str:
    """Return a name quoted as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text quoted as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def read_filters(texts: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Parse the filters of a request, each a JSON list of column, operator and value.

    Raises:
        UsageError: One is not such a list.
    """
    found = []
    for text in texts:
        try:
            column, operator, *value = orjson.loads(text)
        except (orjson.JSONDecodeError, TypeError, ValueError):
            raise UsageError(f"a filter is a JSON list of column, operator and value, not {text[:100]!r}") from None
        if not isinstance(column, str) or operator not in OPERATORS or len(value) > 1:
            raise UsageError(f"operators of a filter are {', '.join(OPERATORS)}; found {text[:100]!r}")
        found.append((column, operator, value[0] if value else None))
    return found


def column_of(columns: Mapping[str, Column], name: str) -> Column:
    """Return a column by its id. Raises UsageError if there is none."""
    column = columns.get(name)
    if column is None:
        raise UsageError(f"there is no column {name[:100]!r}; columns are {', '.join(columns)}")
    return column


def condition_of(columns: Mapping[str, Column], filters: Sequence[tuple[str, str, Any]], search: str = "") -> Condition:
    """Return the condition that rows meet which pass all filters and contain the searched text.

    Args:
        columns: The source's columns by id.
        filters: As `read_filters` returned them.
        search: A text that the prompt, the completion or the reason of a component contains, in upper or lower case.

    Raises:
        UsageError: There is no such column, or the value does not fit it.
    """
    parts: list[str] = []
    parameters: list[Any] = []
    for name, operator, value in filters:
        column = column_of(columns, name)
        if operator in {"missing", "present"}:
            parts.append(f"({column.sql}) IS {'NOT ' if operator == 'present' else ''}NULL")
        elif operator == "contains":
            parts.append(f"contains(lower(CAST(({column.sql}) AS VARCHAR)), lower(?))")
            parameters.append(str(value))
        else:
            parts.append(f"({column.sql}) {COMPARISONS[operator]} ?")
            parameters.append(_value(column, value))
    if search:
        searched = [column.sql for column in columns.values() if column.id in {"prompt", "completion", "reasons"}]
        parts.append("(" + " OR ".join(f"contains(lower({sql}), lower(?))" for sql in searched) + ")")
        parameters += [search] * len(searched)
    return (" AND ".join(parts) or "true"), parameters


def _value(column: Column, value: Any) -> Any:
    if column.kind == "text":
        return str(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{column.title} is a number; it can't be compared with {str(value)[:100]!r}") from None
