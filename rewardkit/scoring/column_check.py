"""Checks before anything is scored that the input has the columns that the reward reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from rewardkit.config.spec import RewardConfig
from rewardkit.errors import DataError
from rewardkit.scoring.formats.decode import OWN, STANDARD, Columns, RowError, decode, field_paths, read_row
from rewardkit.scoring.formats.readers import Reader
from rewardkit.types import Rollout

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
        for field, who in missing_fields(decode(first, columns, field_paths(config)).rollouts, config).items():
            raise DataError(f"{who} reads column {field!r}, which {file} does not have. {_advice([field], found)}")


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


def missing_fields(rollouts: Iterable[Rollout], config: RewardConfig) -> dict[str, str]:
    """Return the fields that a reward reads and that none of the rollouts has.

    A component only reads the rollouts that are routed to its composite.

    Args:
        rollouts: Rollouts whose fields include the paths of ``field_paths``.
        config: The reward.

    Returns:
        For each missing field its first reader, with the place in the reward file.

    Raises:
        DataError: No route of the reward takes a rollout.
    """
    readers = config.needed_fields()
    missing: dict[str, str] = {}
    present: set[str] = set()
    for rollout in rollouts:
        composite = config.composite_for(rollout)
        for field, found in readers.items():
            if field in present:
                continue
            own = [f"{location or config.file}: {who}" for owner, who, location in found if owner is composite]
            if not own:
                continue
            if rollout.fields.get(field) is not None or field in STANDARD:
                present.add(field)
            else:
                missing.setdefault(field, own[0])
    return {field: reader for field, reader in missing.items() if field not in present}


def suggested_columns(name: str, found: Iterable[str]) -> list[str]:
    """Return the columns that are perhaps meant by a name that does not exist, the likeliest first.

    Args:
        name: The missing column, or path into nested columns.
        found: The columns and paths that exist.
    """
    found = list(found)
    others = [other for other in found if other not in STANDARD]
    aliases = (other for alias in _ALSO_CALLED.get(name, ()) for other in found if other.rpartition(".")[2] == alias)
    nested = (other for other in found if other.rpartition(".")[2] == name)
    return list(dict.fromkeys([*nested, *difflib.get_close_matches(name, others, n=1), *aliases]))


def _advice(names: list[str], found: list[str]) -> str:
    close = {name: suggested_columns(name, found) for name in names}
    others = [other for other in found if other not in STANDARD]
    flags = " ".join(
        f"--map {name}={(close[name] or others or ['COLUMN'])[0] if close[name] or len(names) == 1 else 'COLUMN'}"
        for name in names
    )
    start = "did you mean" if any(close.values()) else "if one of them is the right one, give"
    return f"Its columns are {', '.join(found)}; {start}: {flags}"
