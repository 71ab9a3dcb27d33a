"""Scored JSON Lines as Parquet: DuckDB reads them about ten times as fast as they can be read row by row.

Only files whose rows DuckDB reads without a loss are converted: each column has one type, and no row is damaged. All others are left to
the reader of rows, which names the line of a wrong one.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import duckdb

from rewardkit.view.columns import identifier, literal

MEMORY = "300MB"
"""What DuckDB may take for a conversion."""
ROW_GROUP = 5_000
LONGEST_ROW = 16 << 20
"""Bytes of the longest row that is converted; DuckDB reserves twice as much."""
MOST_TYPES = 100_000
"""Characters of the types of all columns: of files with thousands of different keys, a table has no use."""
_RENAMED = re.compile(r"(.*)_\d+\Z", re.DOTALL)
_KEPT = frozenset(
    {"boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
)


class NotConvertibleError(Exception):
    """The file must be read row by row. The message says why."""


class Conversion:
    """Converts one file. ``stop`` ends it from another thread.

    Args:
        source: Scored rows as JSON Lines, plain or compressed.
        target: The Parquet file, which is written beside and then put in place.
        spill: A folder for what does not fit into memory.
    """

    def __init__(self, source: Path, target: Path, spill: Path) -> None:
        self._source, self._target = source, target
        # One thread: the page is served by the others, and memory stays low.
        settings = {"memory_limit": MEMORY, "threads": "1", "temp_directory": str(spill)}
        self._connection = duckdb.connect(config={**settings, "preserve_insertion_order": "true"})

    def run(self) -> None:
        """Write the Parquet file.

        Raises:
            NotConvertibleError: The rows have no common columns, one is damaged, or the conversion was stopped.
        """
        part = self._target.with_suffix(".part")
        reading = f"format = 'newline_delimited', maximum_object_size = {LONGEST_ROW}"
        file = literal(str(self._source.resolve()))
        try:
            found = self._connection.sql(
                f"SELECT * FROM read_json({file}, {reading}, sample_size = -1, maximum_depth = -1)"
            )
            columns = dict(zip(found.columns, map(sql_type, found.types), strict=True))
            _check(columns, dict(zip(found.columns, map(str, found.types), strict=True)))
            listed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
            self._connection.execute(
                f"COPY (SELECT * FROM read_json({file}, {reading}, columns = {{{listed}}})) TO {literal(str(part))} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
            )
            part.replace(self._target)
        except (duckdb.Error, OSError) as error:
            raise NotConvertibleError(str(error)) from error
        finally:
            self._connection.close()
            part.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the conversion, if it has not ended."""
        with contextlib.suppress(duckdb.Error):
            self._connection.interrupt()


def sql_type(kind: Any) -> str:
    """Return the type that a column is read as: texts stay as they are, also those that look like dates; null is read as text.

    Args:
        kind: A type of DuckDB, as it inferred it from all rows.

    Raises:
        NotConvertibleError: Values would lose digits.
    """
    match kind.id:
        case "struct":
            members = ", ".join(f"{identifier(name)} {sql_type(member)}" for name, member in kind.children)
            return f"STRUCT({members})"
        case "list":
            return f"{sql_type(dict(kind.children)['child'])}[]"
        case "map":
            return f"MAP(VARCHAR, {sql_type(dict(kind.children)['value'])})"
        case "float" | "double":
            return "DOUBLE"
        case "hugeint" | "uhugeint" | "decimal":
            raise NotConvertibleError(f"numbers are of type {kind}")
        case name if name in _KEPT:
            return str(name).upper()
    return "VARCHAR"


def _check(columns: dict[str, str], inferred: dict[str, str]) -> None:
    """Raise NotConvertibleError if rows would not be shown as they are."""
    if not {"prompt", "completion", "reward"} <= columns.keys():
        raise NotConvertibleError("the rows have no columns prompt, completion and reward")
    if any("JSON" in inferred[name] or inferred[name].startswith("MAP") for name in ("prompt", "completion")):
        raise NotConvertibleError("prompts or completions are of several types")
    if not inferred.get("components", "STRUCT").startswith("STRUCT"):
        raise NotConvertibleError("components are of several types")
    if sum(map(len, columns.values())) > MOST_TYPES:
        raise NotConvertibleError("the rows have too many different keys")
    lower = {name.lower() for name in columns}
    if any((found := _RENAMED.match(name)) and found[1].lower() in lower for name in columns):
        raise NotConvertibleError("keys differ only in case")
