"""Encodes scored rows as lines of JSON or as Arrow columns.

Both hold the same: the row as it was read, then ``reward``, ``reward_status``, ``reward_id`` and ``components``. It writes no files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rewardkit.composite.scored_batch import ScoredBatch
from rewardkit.errors import OutputError
from rewardkit.scoring.columns.paths import is_list, is_struct
from rewardkit.scoring.formats.arrow import ExactTime
from rewardkit.scoring.formats.decode import Decoded, write_row
from rewardkit.scoring.formats.plain_arrays import constant_numbers, constant_texts, plain_array
from rewardkit.types import Outcome, Score, ScoredRollout, Unscored, outcome_status

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = frozenset({str, int, bool, float, type(None)})
_SURROGATES = re.compile("[\ud800-\udfff]")
_EXTRAS = ("kind", "metrics", "steps", "traceback", "extracted", "output")
"""Keys of a component that lines of JSON leave out if they are null."""


@dataclass(frozen=True, slots=True)
class ComponentColumns:
    """The outcomes of one component for a batch, a list per column."""

    values: list[float | None]
    weights: list[float]
    contributions: list[float | None]
    statuses: list[str]
    reasons: list[str]
    extras: dict[str, list[Any]] = field(default_factory=dict)
    """The columns of ``kind``, ``metrics``, ``steps`` and ``traceback`` that are not all null."""
    all_scored: bool = False


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """The columns that scoring adds to a batch."""

    rewards: list[float | None]
    statuses: list[str]
    reward_id: str
    components: dict[str, ComponentColumns]
    all_scored: bool = False


def score_columns(
    scored: ScoredBatch | Sequence[ScoredRollout], names: Sequence[str], places: Sequence[str]
) -> ScoreColumns:
    """Turn scored rollouts into columns.

    Args:
        scored: A batch.
        names: The components.
        places: For each rollout ``file:line``, which is put before the message of an outcome that blames the row.
    """
    batch = scored if isinstance(scored, ScoredBatch) else ScoredBatch.of(scored, names)
    statuses = ["scored"] * len(batch.rewards)
    for index in batch.unscored:
        statuses[index] = "unscored"
    return ScoreColumns(
        batch.rewards,
        statuses,
        batch.reward_id if batch.rewards else "",
        {name: _component(batch, name, places) for name in names},
        all_scored=not batch.unscored,
    )


def _component(batch: ScoredBatch, name: str, places: Sequence[str]) -> ComponentColumns:
    outcomes = batch.outcomes[name]
    contributions = batch.contributions[name]
    same = bool(batch.weights) and batch.weights.count(batch.weights[0]) == len(outcomes)
    weights = [batch.weights[0][name]] * len(outcomes) if same else [item[name] for item in batch.weights]
    extras: dict[str, list[Any]] = {}
    if set(map(type, outcomes)) == {Score}:
        scores: list[Score] = outcomes  # type: ignore[assignment]  # as the line above found
        values: list[float | None] = [outcome.value for outcome in scores]
        metrics = [outcome.metrics for outcome in scores]
        if any(metrics):
            extras["metrics"] = [dict(item) if item else None for item in metrics]
        steps = [outcome.steps for outcome in scores]
        if steps.count(None) < len(steps):
            extras["steps"] = [None if item is None else list(item) for item in steps]
        for extra in ("extracted", "output"):
            texts = list(map(attrgetter(extra), scores))
            if texts.count(None) < len(texts):
                extras[extra] = texts
        reasons = [outcome.reason for outcome in scores]
        return ComponentColumns(
            values, weights, contributions, ["scored"] * len(scores), reasons, extras, all_scored=True
        )
    parts = [_parts(outcome, place) for outcome, place in zip(outcomes, places, strict=True)]
    for position, extra in enumerate(_EXTRAS, 3):
        column = [part[position] for part in parts]
        if any(item is not None for item in column):
            extras[extra] = column
    return ComponentColumns(
        [part[0] for part in parts],
        weights,
        contributions,
        [part[1] for part in parts],
        [part[2] for part in parts],
        extras,
    )


def _parts(outcome: Outcome, place: str) -> tuple[float | None, str, str, Any, Any, Any, Any, Any, Any]:
    """Value, status, reason, kind, metrics, steps, traceback, extracted, output."""
    if isinstance(outcome, Score):
        metrics = dict(outcome.metrics) if outcome.metrics else None
        steps = None if outcome.steps is None else list(outcome.steps)
        return outcome.value, "scored", outcome.reason, None, metrics, steps, None, outcome.extracted, outcome.output
    if isinstance(outcome, Unscored):
        message = f"{place}: {outcome.message}" if outcome.kind == "input" else outcome.message
        return None, "unscored", message, outcome.kind, None, None, outcome.traceback, None, None
    return None, outcome_status(outcome), outcome.reason, None, None, None, None, None, None


def json_lines(decoded: Decoded, columns: ScoreColumns) -> list[bytes]:
    """Return each scored row as a line of JSON with its line end."""
    names = list(columns.components)
    cells = [_cells(component) for component in columns.components.values()]
    added = zip(columns.rewards, columns.statuses, zip(*cells, strict=True) if cells else (), strict=True)
    lines = []
    for index, (row, (reward, status, parts)) in enumerate(zip(decoded.rows, added, strict=True)):
        components = dict(zip(names, parts, strict=True))
        full = {
            **row,
            "reward": reward,
            "reward_status": status,
            "reward_id": columns.reward_id,
            "components": components,
        }
        lines.append(write_row(full, odd=index in decoded.odd))
    return lines


def _cells(component: ComponentColumns) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = [
        {"value": value, "weight": weight, "contribution": contribution, "status": status, "reason": reason}
        for value, weight, contribution, status, reason in zip(
            component.values,
            component.weights,
            component.contributions,
            component.statuses,
            component.reasons,
            strict=True,
        )
    ]
    for name, column in component.extras.items():
        for cell, value in zip(cells, column, strict=True):
            if value is not None:
                cell[name] = value
    return cells


@dataclass(frozen=True, slots=True)
class Table:
    """A batch for Parquet, and what had to be changed for it."""

    batch: pa.RecordBatch
    replaced: int = 0
    """Rows in which lone surrogates became U+FFFD."""
    emptied: tuple[str, ...] = ()
    """Columns in which objects without keys became null, since Parquet can't hold them."""


def arrow_table(decoded: Decoded, columns: ScoreColumns, types: Mapping[str, Any], places: Sequence[str]) -> Table:
    """Return a batch as Arrow columns.

    Args:
        decoded: The rows.
        columns: Their scores.
        types: The types that columns should have, where known; a column that doesn't fit gets the type of what it holds.
        places: For each row ``file:line``, for messages.

    Raises:
        OutputError: The values of a column have no common type; names the column and suggests JSON Lines.
    """
    import pyarrow as pa

    data = _columns_of(decoded.rows) if decoded.alike is None else decoded.alike.columns
    arrays: dict[str, pa.Array] = {}
    changed: set[int] = set()
    emptied = []
    for name, values in data.items():
        array, dirty = _array(name, values, types.get(name), places)
        changed |= dirty
        cleaned = _without_empty_structs(array)
        if cleaned is not array:
            emptied.append(name)
        arrays[_text(name)] = cleaned
    count = len(decoded.rows)
    arrays["reward"] = _floats(columns.rewards)
    arrays["reward_status"] = _texts(columns.statuses)
    arrays["reward_id"] = constant_texts(columns.reward_id, count)
    parts = {name: _struct(component, count) for name, component in columns.components.items()}
    arrays["components"] = pa.StructArray.from_arrays(list(parts.values()), names=list(parts))
    return Table(pa.RecordBatch.from_pydict(arrays), len(changed), tuple(emptied))


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    names = list(rows[0]) if rows else []
    if not set(map(len, rows)) - {len(names)}:
        with contextlib.suppress(KeyError):
            return {name: [row[name] for row in rows] for name in names}
    names = list(dict.fromkeys(name for row in rows for name in row))  # rows with different columns
    return {name: [row.get(name) for row in rows] for name in names}


def _struct(component: ComponentColumns, count: int) -> pa.StructArray:
    import pyarrow as pa

    kinds = {
        "kind": pa.string(),
        "steps": pa.list_(pa.float64()),
        "traceback": pa.string(),
        "extracted": pa.string(),
        "output": pa.string(),
    }
    first = component.weights[0] if component.weights else 0.0
    arrays = {
        "value": _floats(component.values),
        "weight": (
            constant_numbers(first, count) if component.weights.count(first) == count else _floats(component.weights)
        ),
        "contribution": _floats(component.contributions),
        "status": _texts(component.statuses),
        "reason": _texts(component.reasons),
    }
    for name, kind in kinds.items():
        column = component.extras.get(name)
        if column is None:
            arrays[name] = pa.nulls(count, kind)
        else:
            arrays[name] = _texts(column) if kind == pa.string() else pa.array(column, kind)
    arrays["metrics"] = _metrics(component.extras.get("metrics"), count)
    return pa.StructArray.from_arrays(list(arrays.values()), names=list(arrays))


def _metrics(column: Sequence[Mapping[str, float] | None] | None, count: int) -> pa.Array:
    """Return metrics as a struct with a member for each name. Maps can't be read by every library."""
    import pyarrow as pa

    names = dict.fromkeys(_text(name) for item in column or () for name in item or ())
    if column is None or not names:
        return pa.nulls(count)
    values = [None if item is None else {_text(name): value for name, value in item.items()} for item in column]
    return pa.array(values, pa.struct([(name, pa.float64()) for name in names]))


def _texts(values: Sequence[str | None]) -> pa.Array:
    import pyarrow as pa

    try:
        plain = plain_array(values, set(map(type, values)), pa.string())
        return pa.array(values, pa.string()) if plain is None else plain
    except UnicodeEncodeError:
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _floats(values: Sequence[float | None]) -> pa.Array:
    import pyarrow as pa

    plain = plain_array(values, set(map(type, values)), pa.float64())
    return pa.array(values, pa.float64()) if plain is None else plain


def arrow_column(name: str, values: Sequence[Any], wanted: Any) -> pa.Array:
    """Return values as a column of a type.

    Args:
        name: The column, for messages.
        values: What it holds.
        wanted: The Arrow type; a column that doesn't fit it gets the type of what it holds.

    Raises:
        OutputError: The values have no common type.
    """
    return _array(name, values, wanted, [""] * len(values))[0]


def _array(name: str, values: Sequence[Any], wanted: Any, places: Sequence[str]) -> tuple[pa.Array, set[int]]:
    """Return a column, and the indices of values whose text had lone surrogates."""
    import pyarrow as pa

    dirty: set[int] = set()
    exact = values
    types = set(map(type, values))
    if not types <= _PLAIN:
        values = [_with_times(value, wanted) for value in values]
    try:
        try:
            plain = plain_array(values, types, wanted)
            return pa.array(values, wanted) if plain is None else plain, dirty
        except UnicodeEncodeError:
            clean = [_clean(value) for value in values]
            dirty = {index for index, value in enumerate(values) if clean[index] is not value}
            values = clean
            return pa.array(values, wanted), dirty
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if wanted is not None:
            return _array(name, exact, None, places)
        raise OutputError(_no_common_type(name, values, places, error)) from error


def _with_times(value: Any, wanted: Any) -> Any:
    """Return a value for Arrow: times that Python can't hold as the number or the text that fits the type wanted."""
    if isinstance(value, ExactTime):
        return str(value) if wanted is None else value.value
    if wanted is None:
        return value
    if isinstance(value, list) and is_list(wanted):
        return [_with_times(item, wanted.value_type) for item in value]
    if isinstance(value, Mapping) and is_struct(wanted):
        parts = {part.name: part.type for part in wanted}
        return {name: _with_times(item, parts.get(name)) for name, item in value.items()}
    return value


def _no_common_type(name: str, values: Sequence[Any], places: Sequence[str], error: Exception) -> str:
    import pyarrow as pa

    advice = "JSON Lines can hold it: use --out FILE.jsonl"
    seen: dict[str, str] = {}
    for value, place in zip(values, places, strict=True):
        try:
            kind = str(pa.array([value]).type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as own:
            return f"column {name!r} holds what Parquet has no type for, at {place}: {' '.join(str(own).split())}. {advice}"
        if kind != "null":
            seen.setdefault(kind, place)
    kinds = " and ".join(f"{kind} ({place})" for kind, place in list(seen.items())[:2])
    return f"column {name!r} has no one type, as Parquet needs: it holds {kinds or error}. {advice}"


def _text(value: str) -> str:
    return _SURROGATES.sub("\ufffd", value)


def _clean(value: Any) -> Any:
    """Replace lone surrogates by U+FFFD. Returns the same object if there are none."""
    if isinstance(value, str):
        return _text(value) if _SURROGATES.search(value) else value
    if isinstance(value, list):
        items = [_clean(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, Mapping):
        pairs = {_clean(key): _clean(item) for key, item in value.items()}
        same = all(
            new_key is key and new is item
            for (new_key, new), (key, item) in zip(pairs.items(), value.items(), strict=False)
        )
        return value if same else pairs
    return value


def _without_empty_structs(array: pa.Array) -> pa.Array:
    """Replace structs without fields by nulls. Returns the same array if there are none."""
    import pyarrow as pa

    kind = _without_empty(array.type)
    if kind == array.type:
        return array
    return pa.array([_prune(value, kind) for value in array.to_pylist()], kind)


def _without_empty(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [pa.field(part.name, _without_empty(part.type)) for part in kind]
        if not fields:
            return pa.null()
        return kind if all(new.type == old.type for new, old in zip(fields, kind, strict=True)) else pa.struct(fields)
    if pa.types.is_list(kind):
        inner = _without_empty(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def _prune(value: Any, kind: pa.DataType) -> Any:
    import pyarrow as pa

    if value is None or pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        return {part.name: _prune(value.get(part.name), part.type) for part in kind}
    if pa.types.is_list(kind):
        return [_prune(item, kind.value_type) for item in value]
    return value
