"""Checks before anything is scored that the input has the columns that the reward reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rewardkit.config.spec import RewardConfig
from rewardkit.errors import DataError
from rewardkit.scoring.columns.columns import OWN, STANDARD, Columns
from rewardkit.scoring.columns.paths import MapError, RowError
from rewardkit.scoring.formats.decode import decode, read_row
from rewardkit.scoring.formats.readers import Reader
from rewardkit.types import Rollout

FIRST_ROWS = 64
"""A column is missing from a file if so many first rows lack it. Rows that lack it later are unscored."""
MAX_NESTED = 3
"""Levels of nested columns that are searched for a column that was perhaps meant."""

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
    """Check that the first rows of every file have the columns that the reward reads.

    Args:
        reader: The input.
        columns: How columns become the parts of a rollout.
        config: The reward.

    Raises:
        DataError: There is no row, no prompt or no completion, no route matches a row, or columns are missing that the reward reads.
            The message lists all of them, the columns that exist, and the option that names the right one.
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
        rollouts = decode(first, columns, config.field_paths).rollouts
        try:
            missing_columns = missing_fields(rollouts, config)
        except DataError as error:
            unknown = unknown_route_columns(rollouts, config)
            raise DataError(
                "\n".join([str(error), *(column_advice(*item, file, found) for item in unknown.items())])
            ) from None
        if missing_columns:
            raise DataError("\n".join(column_advice(*item, file, found) for item in missing_columns.items()))


def unknown_route_columns(rollouts: Sequence[Rollout], config: RewardConfig) -> dict[str, str]:
    """Return the columns that routes match and that no rollout has.

    Args:
        rollouts: Rollouts whose fields include the reward's ``field_paths``.
        config: The reward.

    Returns:
        For each column what reads it, with the place in the reward file.
    """
    return {
        name: f"{location or config.file}: a route"
        for name, location in config.route_columns().items()
        if rollouts and not any(name in rollout.fields for rollout in rollouts)
    }


def column_advice(name: str, reader: str, file: str, found: list[str]) -> str:
    """Return the message about a missing column: what reads it, the columns that exist, and which was perhaps meant.

    Args:
        name: The missing column.
        reader: What reads it, with the place in the reward file.
        file: The file of rows.
        found: The columns of the file, and the paths into nested ones.
    """
    if name in found:
        return (
            f"{reader} reads column {name!r}, which has no value in the first rows of {file}. {_listed(found)}; name "
            f"another one in the reward file, or give --map {name}=COLUMN"
        )
    advice = f"if one of them is the right one, give --map {name}=COLUMN"
    if close := suggested_columns(name, found):
        advice = f"did you mean {close[0]!r}? Name it in the reward file, or give --map {name}={close[0]}"
    return f"{reader} reads column {name!r}, which {file} does not have. {_listed(found)}; {advice}"


def _columns(rows: Iterable[Any], columns: Columns, file: str) -> list[str]:
    """Return the columns of the first rows that can be read."""
    names: dict[str, None] = {}
    readable = []
    unusable = ""
    for raw in rows:
        try:
            readable.append(read_row(raw)[0])
        except RowError:
            continue
    columns.refuse_without_effect(readable, file)
    for row in readable:
        # A mistake in --map concerns every row; it must not reject a million of them.
        try:
            row = columns.rename(row)  # noqa: PLW2901 - the same row
        except MapError as error:
            reversed_map = _reversed_map(row, columns)
            raise DataError(f"{file}: {reversed_map or error}; its columns are {', '.join(row)}") from error
        except RowError as error:
            unusable = unusable or f"{file}: {error}"
            continue
        if row.get("reward_id") is None and (foreign := [name for name in OWN if name in row]):
            raise DataError(
                f"{file}: column {foreign[0]!r} would be overwritten by the score; keep it under another name: "
                f"--map old_{foreign[0]}={foreign[0]}"
            )
        for name, value in row.items():
            if name not in OWN:
                names.update(dict.fromkeys(column_paths(name, value)))
    if unusable and not names:
        raise DataError(unusable)
    return list(names)


def column_paths(name: str, value: Any, depth: int = MAX_NESTED) -> Iterator[str]:
    """Yield a column and the paths of the values inside it."""
    yield name
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from column_paths(f"{name}.{key}", inner, depth - 1)


def _reversed_map(row: Mapping[str, Any], columns: Columns) -> str:
    """Return a hint if a --map names the old column first; empty otherwise."""
    for new, paths in columns.renames.items():
        if len(paths) == 1 and new in row and paths[0] not in row and paths[0].split(".")[0] not in row:
            return f"--map {new}={paths[0]}: there is no column {paths[0]!r}; the new name comes first: --map {paths[0]}={new}"
    return ""


def missing_fields(rollouts: Iterable[Rollout], config: RewardConfig) -> dict[str, str]:
    """Return the fields that a reward reads and that none of the rollouts has.

    A component only reads the rollouts that are routed to its composite and that its condition may let through.

    Args:
        rollouts: Rollouts whose fields include the reward's ``field_paths``.
        config: The reward.

    Returns:
        For each missing field its first reader, with the place in the reward file.

    Raises:
        DataError: No route of the reward takes a rollout.
    """
    missing: dict[str, str] = {}
    present: set[str] = set()
    for rollout in rollouts:
        for field, reader, location in config.readers(rollout):
            if field in present:
                continue
            if rollout.has_value(field) or field in STANDARD:
                present.add(field)
            else:
                missing.setdefault(field, f"{location or config.file}: {reader}")
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
    ends = {other.rpartition(".")[2]: other for other in reversed(others)}
    like_ends = (ends[end] for end in difflib.get_close_matches(name.rpartition(".")[2], ends, n=1))
    return list(dict.fromkeys([*nested, *difflib.get_close_matches(name, others, n=1), *aliases, *like_ends]))


def _advice(names: list[str], found: list[str]) -> str:
    close = {name: suggested_columns(name, found) for name in names}
    others = [other for other in found if other not in STANDARD] if len(names) == 1 else []
    flags = " ".join(f"--map {name}={[*close[name], *others, 'COLUMN'][0]}" for name in names)
    start = "did you mean" if any(close.values()) else "if one of them is the right one, give"
    return f"{_listed(found)}; {start}: {flags}"


def _listed(found: list[str]) -> str:
    columns = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return f"Its columns are {', '.join(columns)}"
