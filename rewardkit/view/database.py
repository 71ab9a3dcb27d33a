"""Rows in DuckDB: a Parquet file is read where it lies, rows of other files are kept in a table on disk.

Memory stays flat: DuckDB reads the columns that a query names, in batches, and moves what is too large to a temporary folder. Once all
files are known the connection is locked: it reads no other file, loads no extension and reaches no network.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rewardkit.errors import DataError
from rewardkit.types import message_text
from rewardkit.view.columns import Column, identifier, literal

MEMORY = "400MB"
"""What DuckDB may take before it uses the disk."""
INSERTED_AT_ONCE = 2_000
SHORT_TEXT = 200
"""Fields with longer texts are shown with their row, but can't be filtered by."""
OWN = frozenset({"prompt", "completion", "group", "step", "reward", "reward_status", "reward_id", "num_tokens"})
TABLE = pa.schema(
    [
        ("row", pa.int64()),
        ("step", pa.int64()),
        ("group_key", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("reward", pa.float64()),
        ("status", pa.string()),
        ("length", pa.int64()),
        ("numbers", pa.map_(pa.string(), pa.float64())),
        ("texts", pa.map_(pa.string(), pa.string())),
        ("reasons", pa.string()),
        ("data", pa.string()),
    ]
)


class Database:
    """A DuckDB database in a temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rewardkit-view-"))
        self.connection = duckdb.connect(
            str(self.folder / "rows.duckdb"),
            config={
                "memory_limit": MEMORY,
                "temp_directory": str(self.folder / "spilled"),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "preserve_insertion_order": "true",
            },
        )
        self._files: list[str] = []

    def lock(self) -> None:
        """Allow no other file than those that are known, and no other settings."""
        allowed = ", ".join(literal(file) for file in self._files)
        self.connection.execute(f"SET allowed_paths=[{allowed}]")
        self.connection.execute("SET enable_external_access=false")
        self.connection.execute("SET lock_configuration=true")

    def close(self) -> None:
        """Close the database and remove its folder."""
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a query and return its rows. Safe in any thread.

        Raises:
            DataError: The file can't be read, or does not fit the query.
        """
        with self.connection.cursor() as cursor:
            try:
                cursor.execute(sql, list(parameters))
                names = [item[0] for item in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except duckdb.Error as error:
                raise DataError(f"the rows can't be read: {error}") from error

    def add_parquet(self, name: str, path: Path) -> None:
        """Make a view of a scored Parquet file. Raises DataError."""
        self.allow(path)
        self.refresh_parquet(name, path)

    def allow(self, path: Path) -> None:
        """Allow a file to be read after the connection is locked, also one that does not exist yet."""
        self._files.append(str(path.resolve()))

    def refresh_parquet(self, name: str, path: Path) -> None:
        """Make the view again, after the file has been written anew."""
        with self.connection.cursor() as cursor:
            try:
                cursor.execute(
                    f"CREATE OR REPLACE VIEW {identifier(name)} AS "
                    f"SELECT * FROM read_parquet({literal(str(path.resolve()))}, file_row_number = true)"
                )
            except duckdb.Error as error:
                raise DataError(f"{path} can't be read: {error}") from error

    def add_table(self, name: str) -> None:
        """Make an empty table for rows of other files, or empty it."""
        types = "row BIGINT, step BIGINT, group_key VARCHAR, prompt VARCHAR, completion VARCHAR, reward DOUBLE, status VARCHAR, "
        types += (
            "length BIGINT, numbers MAP(VARCHAR, DOUBLE), texts MAP(VARCHAR, VARCHAR), reasons VARCHAR, data VARCHAR"
        )
        with self.connection.cursor() as cursor:
            cursor.execute(f"CREATE OR REPLACE TABLE {identifier(name)} ({types})")

    def insert(self, name: str, rows: Iterable[Mapping[str, Any]], start: int, columns: dict[str, Column]) -> int:
        """Append scored rows to a table.

        Args:
            name: The table.
            rows: The rows, as adapters yield them.
            start: The number of the first row.
            columns: The columns of the table; those of new components and fields are added.

        Returns:
            The number of rows that were added.
        """
        done, left = 0, iter(rows)
        with self.connection.cursor() as cursor:
            while part := list(islice(left, INSERTED_AT_ONCE)):
                records = [_record(row, start + done + index, columns) for index, row in enumerate(part)]
                cursor.register("inserted", pa.Table.from_pylist(records, schema=TABLE))
                cursor.execute(f"INSERT INTO {identifier(name)} SELECT * FROM inserted")
                cursor.unregister("inserted")
                done += len(records)
        return done


def table_columns() -> dict[str, Column]:
    """Return the columns that every table has."""
    columns = [
        Column("row", "row", "number", "row", "main"),
        Column("step", "step", "number", "step", "main"),
        Column("group", "group", "text", "coalesce(group_key, md5(prompt))", "main"),
        Column("prompt_key", "prompt", "text", "md5(prompt)", "key"),
        Column("prompt", "prompt", "text", "prompt", "main"),
        Column("completion", "completion", "text", "completion", "main"),
        Column("reasons", "reasons", "text", "reasons", "main"),
        Column("reward", "reward", "number", "reward", "main"),
        Column("status", "status", "text", "status", "main"),
        Column("length", "length", "number", "length", "main"),
    ]
    return {column.id: column for column in columns}


def parquet_columns(path: Path) -> tuple[dict[str, Column], int]:
    """Return the columns of a scored Parquet file, and the number of its rows.

    Raises:
        DataError: It can't be read, or is not a scored file.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    types = {field.name: field.type for field in schema}
    texts = {name: _text_sql(name, types.get(name)) for name in ("prompt", "completion")}
    group = f"coalesce(CAST({identifier('group')} AS VARCHAR), md5({texts['prompt']}))"
    length = '"num_tokens"' if "num_tokens" in types else f"length({texts['completion']})"
    scored = "CASE WHEN reward IS NULL THEN 'unscored' ELSE 'scored' END"
    components: Any = types.get("components")
    is_struct = components is not None and pa.types.is_struct(components)
    members = {member.name: member.type for member in components} if is_struct else {}
    reasons = [f'components.{identifier(name)}."reason"' for name in members if _has(members[name], "reason")]
    columns = [
        Column("row", "row", "number", "file_row_number", "main"),
        *([Column("step", "step", "number", '"step"', "main")] if _is_number(types.get("step")) else []),
        Column("group", "group", "text", group if "group" in types else f"md5({texts['prompt']})", "main"),
        Column("prompt_key", "prompt", "text", f"md5({texts['prompt']})", "key"),
        Column("prompt", "prompt", "text", texts["prompt"], "main"),
        Column("completion", "completion", "text", texts["completion"], "main"),
        Column("reasons", "reasons", "text", f"concat_ws(' ', {', '.join(reasons)})" if reasons else "''", "main"),
        Column("reward", "reward", "number", '"reward"', "main"),
        Column("status", "status", "text", '"reward_status"' if "reward_status" in types else scored, "main"),
        Column("length", "tokens" if "num_tokens" in types else "characters", "number", length, "main"),
    ]
    for name, kind in members.items():
        place = f"components.{identifier(name)}"
        columns.append(Column(f"component:{name}", name, "number", f'{place}."value"', "component"))
        status = f'{place}."status"' if _has(kind, "status") else "NULL::VARCHAR"
        if _has(kind, "kind"):
            status = (
                f"CASE WHEN {place}.\"kind\" IS NULL THEN {status} ELSE {status} || ' (' || {place}.\"kind\" || ')' END"
            )
        columns.append(Column(f"status:{name}", f"status of {name}", "text", status, "status"))
    for name, kind in types.items():
        if name not in OWN and name != "components":
            if _is_number(kind):
                columns.append(Column(f"field:{name}", name, "number", identifier(name), "field"))
            elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
                sql = f"CAST({identifier(name)} AS VARCHAR)"
                columns.append(Column(f"field:{name}", name, "text", sql, "field"))
    return {column.id: column for column in columns}, count


def plain_text(value: Any) -> str:
    """Return a prompt or completion as one text: of chat messages, all contents."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence):
        return "\n".join(
            message_text(part.get("content")) if isinstance(part, Mapping) else str(part) for part in value
        )
    return str(value)


def _record(row: Mapping[str, Any], number: int, columns: dict[str, Column]) -> dict[str, Any]:
    """Return a row of the table, and add the columns that are new."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    reasons = []
    for name, part in (row.get("components") or {}).items():
        if part is None:
            continue
        if part.get("value") is not None:
            numbers[f"component:{name}"] = float(part["value"])
        status, kind = (
            part.get("status") or ("scored" if part.get("value") is not None else "no value"),
            part.get("kind"),
        )
        texts[f"status:{name}"] = f"{status} ({kind})" if kind else status
        reasons.append(part.get("reason") or "")
        _add(columns, f"component:{name}", name, "number", "component")
        _add(columns, f"status:{name}", f"status of {name}", "text", "status")
    for name, value in row.items():
        if name in OWN or name == "components":
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[f"field:{name}"] = float(value)
            _add(columns, f"field:{name}", name, "number", "field")
        elif isinstance(value, (str, bool)) and len(str(value)) <= SHORT_TEXT:
            texts[f"field:{name}"] = str(value)
            _add(columns, f"field:{name}", name, "text", "field")
    completion = plain_text(row.get("completion"))
    reward, group, tokens = row.get("reward"), row.get("group"), row.get("num_tokens")
    return {
        "row": number,
        "step": row.get("step"),
        "group_key": None if group is None else str(group),
        "prompt": plain_text(row.get("prompt")),
        "completion": completion,
        "reward": reward,
        "status": row.get("reward_status") or ("scored" if reward is not None else "unscored"),
        "length": len(completion) if tokens is None else tokens,
        "numbers": list(numbers.items()),
        "texts": list(texts.items()),
        "reasons": " ".join(reasons),
        "data": orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS).decode(),
    }


def _add(columns: dict[str, Column], name: str, title: str, kind: Any, role: str) -> None:
    if name not in columns:
        place = "numbers" if kind == "number" else "texts"
        columns[name] = Column(name, title, kind, f"{place}[{literal(name)}]", role)


def _text_sql(name: str, kind: Any) -> str:
    """Return the expression of a column's text: of chat messages, their JSON."""
    if kind is None:
        return "''"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return identifier(name)
    return f"CAST(to_json({identifier(name)}) AS VARCHAR)"


def _is_number(kind: Any) -> bool:
    return kind is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _has(kind: Any, name: str) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index(name) >= 0)
