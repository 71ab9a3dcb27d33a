"""What the viewer asks of a source: a page of rows, one row, groups, statistics, and the prompts that two sources share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from rewardkit.errors import UsageError
from rewardkit.view.columns import Column, Condition, column_of, condition_of, identifier
from rewardkit.view.database import Database, plain_text

PREVIEW = 160
"""Characters of a prompt or completion in the table."""
LONGEST = 20_000
"""Characters of a text that are read for its preview: chat messages are JSON, of which the contents are shown."""
MOST_ROWS = 200
"""Rows of one page at most."""
BINS = 20


@dataclass(slots=True)
class Relation:
    """The rows of one source in the database."""

    name: str
    columns: dict[str, Column]
    rows: int
    is_table: bool
    version: int = 1
    """Grows whenever rows are added."""
    extra: dict[str, Any] = field(default_factory=dict)


def page(
    database: Database,
    relation: Relation,
    *,
    filters: Sequence[tuple[str, str, Any]] = (),
    search: str = "",
    sort: str = "",
    offset: int = 0,
    limit: int = 50,
) -> dict[str, Any]:
    """Return a page of rows, with previews of their texts.

    Args:
        database: The database.
        relation: The source.
        filters: As `read_filters` returned them.
        search: A text that rows contain.
        sort: The id of a column, with a minus before it for descending order. Empty: the order of the file.
        offset: The rows before the page.
        limit: The rows of the page.

    Raises:
        UsageError: There is no such column.
    """
    columns = relation.columns
    where, parameters = condition_of(columns, filters, search)
    number, source = columns["row"].sql, identifier(relation.name)
    order = ""
    if sort:
        column = column_of(columns, sort.removeprefix("-"))
        order = f"({column.sql}) {'DESC' if sort.startswith('-') else 'ASC'} NULLS LAST, "
    limit = max(1, min(limit, MOST_ROWS))
    found = database.ask(
        f"SELECT {number} AS n FROM {source} WHERE {where} ORDER BY {order}{number} LIMIT ? OFFSET ?",
        [*parameters, limit, max(0, offset)],
    )
    total = relation.rows
    if where != "true":
        total = database.ask(f"SELECT count(*) AS n FROM {source} WHERE {where}", parameters)[0]["n"]
    return {"total": total, "rows": rows_of(database, relation, [row["n"] for row in found])}


def rows_of(database: Database, relation: Relation, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows by their numbers, in that order, with previews of their texts."""
    if not numbers:
        return []
    shown = [column for column in relation.columns.values() if column.role != "key" and column.id != "reasons"]
    names = [f"c{index}" for index in range(len(shown))]
    listed = ", ".join(
        f"left({column.sql}, {LONGEST}) AS {name}"
        if column.id in {"prompt", "completion"}
        else f"({column.sql}) AS {name}"
        for column, name in zip(shown, names, strict=True)
    )
    marks = ", ".join("?" * len(numbers))
    number = relation.columns["row"].sql
    found = database.ask(f"SELECT {listed} FROM {identifier(relation.name)} WHERE {number} IN ({marks})", list(numbers))
    by_number = {}
    for record in found:
        row = {column.id: record[name] for column, name in zip(shown, names, strict=True)}
        for name in ("prompt", "completion"):
            row[name] = preview(row[name])
        by_number[row["row"]] = row
    return [by_number[number] for number in numbers if number in by_number]


def row_of(database: Database, relation: Relation, number: int) -> dict[str, Any]:
    """Return a whole row by its number, counted from 0. Raises UsageError if there is none."""
    columns = "data" if relation.is_table else "*"
    key = f"{relation.columns['group'].sql} AS view_group_key"
    found = database.ask(
        f"SELECT {columns}, {key} FROM {identifier(relation.name)} WHERE {relation.columns['row'].sql} = ?", [number]
    )
    if not found:
        raise UsageError(f"there is no row {number + 1}")
    group = found[0].pop("view_group_key")
    row = orjson.loads(found[0]["data"]) if relation.is_table else found[0]
    row.pop("file_row_number", None)
    return {**row, "view_group_key": group}


def groups(
    database: Database,
    relation: Relation,
    *,
    filters: Sequence[tuple[str, str, Any]] = (),
    search: str = "",
    sort: str = "",
    offset: int = 0,
    limit: int = 50,
) -> dict[str, Any]:
    """Return a page of groups: rows of the same group, or of the same prompt, with the spread of their rewards.

    Args:
        database: The database.
        relation: The source.
        filters: As `read_filters` returned them; they choose the rows.
        search: A text that rows contain.
        sort: ``first``, ``rows``, ``mean``, ``std``, ``min`` or ``max``, with a minus for descending order.
        offset: The groups before the page.
        limit: The groups of the page.

    Raises:
        UsageError: There is no such column.
    """
    by, descending = sort.removeprefix("-") or "first", sort.startswith("-")
    if by not in GROUP_COLUMNS:
        raise UsageError(f"groups are sorted by {', '.join(GROUP_COLUMNS)}, not by {by[:100]!r}")
    columns = relation.columns
    where, parameters = condition_of(columns, filters, search)
    source = identifier(relation.name)
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in GROUP_COLUMNS.items())
    inner = (
        f"SELECT {columns['group'].sql} AS key, {columns['row'].sql} AS n, {columns['reward'].sql} AS r "
        f"FROM {source} WHERE {where}"
    )
    found = database.ask(
        f"SELECT key, {listed}, count(*) OVER () AS total FROM ({inner}) GROUP BY key "
        f"ORDER BY {identifier(by)} {'DESC' if descending else 'ASC'} NULLS LAST, first LIMIT ? OFFSET ?",
        [*parameters, max(1, min(limit, MOST_ROWS)), max(0, offset)],
    )
    firsts = {row["row"]: row for row in rows_of(database, relation, [group["first"] for group in found])}
    total = found[0]["total"] if found else 0
    for group in found:
        group["prompt"] = firsts[group["first"]]["prompt"]
        del group["total"]
    return {"total": total, "groups": found}


GROUP_COLUMNS = {
    "first": "min(n)",
    "rows": "count(*)",
    "scored": "count(r)",
    "mean": "avg(r)",
    "std": "stddev_pop(r)",
    "min": "min(r)",
    "max": "max(r)",
}
"""What is said of a group, and its expression."""


def summary(
    database: Database, relation: Relation, *, filters: Sequence[tuple[str, str, Any]] = (), search: str = ""
) -> dict[str, Any]:
    """Return the statistics of the rows that pass the filters: moments and a histogram of each number, counts of each status."""
    condition = condition_of(relation.columns, filters, search)
    wanted = [
        column
        for column in relation.columns.values()
        if column.kind == "number" and (column.id in {"reward", "length"} or column.role == "component")
    ]
    return {
        "numbers": _numbers(database, relation, wanted, condition),
        "statuses": {
            column.title.removeprefix("status of "): _counts(database, relation, column, condition)
            for column in relation.columns.values()
            if column.id == "status" or column.role == "status"
        },
    }


def _numbers(
    database: Database, relation: Relation, columns: Sequence[Column], condition: Condition
) -> list[dict[str, Any]]:
    if not columns:
        return []
    where, parameters = condition
    source = identifier(relation.name)
    listed = ", ".join(
        f"count({c.sql}) AS n{i}, avg({c.sql}) AS mean{i}, stddev_pop({c.sql}) AS std{i}, "
        f"min({c.sql}) AS low{i}, max({c.sql}) AS high{i}, approx_count_distinct({c.sql}) AS kinds{i}"
        for i, c in enumerate(columns)
    )
    moments = database.ask(f"SELECT {listed} FROM {source} WHERE {where}", parameters)[0]
    found = []
    for i, column in enumerate(columns):
        low, high = moments[f"low{i}"], moments[f"high{i}"]
        entry = {
            "id": column.id,
            "title": column.title,
            "scored": moments[f"n{i}"],
            "mean": moments[f"mean{i}"],
            "std": moments[f"std{i}"],
            "low": low,
            "high": high,
            "bins": [],
        }
        if low is not None and math.isfinite(low) and math.isfinite(high):
            entry["bins"] = _bins(database, relation, column, condition, float(low), float(high), moments[f"kinds{i}"])
        found.append(entry)
    return found


def _bins(
    database: Database,
    relation: Relation,
    column: Column,
    condition: Condition,
    low: float,
    high: float,
    distinct: int,
) -> list[dict[str, float]]:
    """Count values in bins of equal width; where there are few different values, count each."""
    where, parameters = condition
    source = f"{identifier(relation.name)} WHERE ({where}) AND ({column.sql}) IS NOT NULL"
    if distinct <= 2 * BINS:  # the count is approximate
        each = database.ask(
            f"SELECT CAST(({column.sql}) AS DOUBLE) AS v, count(*) AS n FROM {source} GROUP BY v ORDER BY v", parameters
        )
        if len(each) <= BINS:
            return [{"from": row["v"], "to": row["v"], "rows": row["n"]} for row in each]
    width = (high - low) / BINS
    counted = database.ask(
        f"SELECT least(floor((({column.sql}) - ?) / ?), ?) AS b, count(*) AS n FROM {source} GROUP BY b",
        [low, width, BINS - 1, *parameters],
    )
    rows = {int(row["b"]): row["n"] for row in counted}
    return [
        {"from": low + index * width, "to": low + (index + 1) * width, "rows": rows.get(index, 0)}
        for index in range(BINS)
    ]


def _counts(database: Database, relation: Relation, column: Column, condition: Condition) -> dict[str, int]:
    where, parameters = condition
    found = database.ask(
        f"SELECT ({column.sql}) AS v, count(*) AS n FROM {identifier(relation.name)} WHERE {where} "
        f"GROUP BY v ORDER BY n DESC LIMIT 50",
        parameters,
    )
    return {str(row["v"] if row["v"] is not None else "absent"): row["n"] for row in found}


def compare(
    database: Database, first: Relation, second: Relation, *, sort: str = "", offset: int = 0, limit: int = 50
) -> dict[str, Any]:
    """Return the prompts that two sources share, with the mean reward in each.

    Args:
        database: The database.
        first: One source.
        second: The other.
        sort: ``difference`` (second minus first), ``change`` (its size), ``a``, ``b`` or ``first``, with a minus for descending order.
        offset: The prompts before the page.
        limit: The prompts of the page.

    Raises:
        UsageError: There is no such order.
    """
    by, descending = sort.removeprefix("-") or "change", sort.startswith("-") or not sort
    orders = ("difference", "change", "a", "b", "first")
    if by not in orders:
        raise UsageError(f"shared prompts are sorted by {', '.join(orders)}, not by {by[:100]!r}")
    means = [
        f"SELECT {relation.columns['prompt_key'].sql} AS key, avg({relation.columns['reward'].sql}) AS mean, count(*) AS n, "
        f"min({relation.columns['row'].sql}) AS first FROM {identifier(relation.name)} GROUP BY key"
        for relation in (first, second)
    ]
    found = database.ask(
        "SELECT a.key AS key, a.mean AS a, b.mean AS b, a.n AS a_rows, b.n AS b_rows, a.first AS first, b.first AS b_first, "
        f"b.mean - a.mean AS difference, abs(b.mean - a.mean) AS change, count(*) OVER () AS total "
        f"FROM ({means[0]}) AS a JOIN ({means[1]}) AS b USING (key) "
        f"ORDER BY {identifier(by)} {'DESC' if descending else 'ASC'} NULLS LAST, a.first LIMIT ? OFFSET ?",
        [max(1, min(limit, MOST_ROWS)), max(0, offset)],
    )
    total = found[0]["total"] if found else 0
    prompts = {row["row"]: row["prompt"] for row in rows_of(database, first, [row["first"] for row in found])}
    for row in found:
        row["prompt"] = prompts.get(row["first"], "")
        del row["total"]
    return {"total": total, "prompts": found}


def preview(text: str | None) -> str:
    """Return the beginning of a text; of chat messages in JSON, of their contents."""
    text = text or ""
    if text.startswith("[{"):
        with contextlib.suppress(orjson.JSONDecodeError):
            text = plain_text(orjson.loads(text))
    return text[:PREVIEW]
