"""Checks before anything is scored that the input has the columns that the reward reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from rewardkit.config.spec import RewardConfig
from rewardkit.errors import DataError
from rewardkit.scoring.formats.decode import OWN, STANDARD, Columns, RowError, decode, field_paths, read_row
from rewardkit.scoring.formats.readers import Reader

FIRST_ROWS = 64
"""A column that all of so many first rows lack is missing from the file; rows that lack one later are unscored."""

_ALSO_CALLED = {
    "prompt": ("question", "messages", "query", "problem", "instruction", "input"),
    "completion": (
        "completions",
        "response",
        "responses",
        "output",
        "outputs",
        "code",
        "generation",
        "solution",
        "answer",
    ),
    "answer": ("gt", "ground_truth", "label", "gold", "target", "reference", "expected_answer"),
    "tests": ("test", "test_cases", "unit_tests"),
}
"""Names that public data sets use."""


def check_columns(reader: Reader, columns: Columns, config: RewardConfig) -> None:
    """Compare the first rows of every file with what the reward needs.

    Raises:
        DataError: There is no row, no prompt, no completion, or a column that a component reads is missing; says what
            columns there are and how to name the right one.
    """
    for chunk in reader.first_rows():
        first = type(chunk)(
            chunk.files[:FIRST_ROWS],
            chunk.numbers[:FIRST_ROWS],
            chunk.rows[:FIRST_ROWS],
            chunk.ordinals[:FIRST_ROWS],
            0,
        )
        file = chunk.files[0]
        found = _columns(first.rows, columns, file)
        if missing := [name for name in ("prompt", "completion") if found and name not in found]:
            names = " and no column ".join(map(repr, missing))
            raise DataError(f"{file}: rows have no column {names}. {_advice(missing, found)}")
        _check_needs(decode(first, columns, field_paths(config)).rollouts, found, file, config)


def _columns(rows: Iterable[Any], columns: Columns, file: str) -> list[str]:
    """Return the columns of the first rows that can be read."""
    names: dict[str, None] = {}
    for raw in rows:
        try:
            row = read_row(raw)[0]
        except RowError:
            continue
        # A mistake in --map concerns every row; it must not reject a million of them.
        try:
            row = columns.rename(row)
        except RowError as error:
            reversed_map = _reversed_map(row, columns)
            raise DataError(f"{file}: {reversed_map or error}; its columns are {', '.join(row)}") from error
        if row.get("reward_id") is None and (foreign := [name for name in OWN if name in row]):
            raise DataError(
                f"{file}: column {foreign[0]!r} would be overwritten by the score; keep it under another name: "
                f"--map old_{foreign[0]}={foreign[0]}"
            )
        names.update(dict.fromkeys(name for name in row if name not in OWN))
    return list(names)


def _reversed_map(row: Mapping[str, Any], columns: Columns) -> str:
    """Return a hint if a --map names the old column first; empty otherwise."""
    for new, paths in columns.renames.items():
        if len(paths) == 1 and new in row and paths[0] not in row and paths[0].split(".")[0] not in row:
            return f"--map {new}={paths[0]}: there is no column {paths[0]!r}; the new name comes first: --map {paths[0]}={new}"
    return ""


def _check_needs(rollouts: Iterable[Any], found: list[str], file: str, config: RewardConfig) -> None:
    lacking: dict[str, list[str]] = {}
    present: set[str] = set()
    for rollout in rollouts:
        composite = config.composite_for(rollout)
        needs: dict[str, list[str]] = {}
        for field, readers in config.needed_fields().items():
            needs[field] = [
                f"{location or config.file}: {who}" for owner, who, location in readers if owner is composite
            ]
        for field, readers_here in needs.items():
            if not readers_here or field in present:
                continue
            if rollout.fields.get(field) is not None or field in STANDARD:
                present.add(field)
            else:
                lacking[field] = readers_here
    for field, readers_here in lacking.items():
        if field not in present:
            raise DataError(
                f"{readers_here[0]} reads column {field!r}, which {file} does not have. {_advice([field], found)}"
            )


def _advice(names: list[str], found: list[str]) -> str:
    close = {
        name: [
            *difflib.get_close_matches(name, [other for other in found if other not in STANDARD], n=1),
            *(other for other in _ALSO_CALLED.get(name, ()) if other in found),
        ]
        for name in names
    }
    others = [other for other in found if other not in STANDARD]
    flags = " ".join(
        f"--map {name}={(close[name] or others or ['COLUMN'])[0] if close[name] or len(names) == 1 else 'COLUMN'}"
        for name in names
    )
    start = "did you mean" if any(close.values()) else "if one of them is the right one, give"
    return f"Its columns are {', '.join(found)}; {start}: {flags}"
