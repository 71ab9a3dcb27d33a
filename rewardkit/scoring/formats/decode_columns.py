"""Turns the rows of a chunk into rollouts by columns, which takes half the time of doing it row by row.

This works where all rows have the same columns and nothing has to be converted, renamed, split or refused, which is nearly always so.
Any other chunk is left to ``decode``, row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, cast

import orjson

from rewardkit.read_only import FLAT_TYPES, ReadOnlyDict, has_value
from rewardkit.scoring.columns.columns import OWN, STANDARD
from rewardkit.types import Rollout


class AlikeRows:
    """Rows that all have the same columns.

    Args:
        rows: The rows.
        columns: The values of each column.
    """

    def __init__(self, rows: list[dict[str, Any]], columns: dict[str, Sequence[Any]]) -> None:
        self.rows = rows
        self.columns = columns
        self.types = {name: frozenset(map(type, values)) for name, values in columns.items()}
        """The types of the values of each column."""


def alike_rows(raw: Sequence[Any]) -> AlikeRows | None:
    """Return lines of JSON, or rows, by columns. None if some have other columns than the first, or can't be read by orjson alone."""
    if not raw:
        return None
    rows: list[Any]
    try:
        rows = list(map(orjson.loads, raw)) if type(raw[0]) is bytes else list(raw)
    except (orjson.JSONDecodeError, TypeError):
        return None
    if set(map(type, rows)) != {dict}:
        return None
    names = list(rows[0])
    if len(names) < 2 or set(map(len, rows)) != {len(names)}:
        return None
    try:
        values = zip(*map(itemgetter(*names), rows), strict=True)
    except KeyError:
        return None
    return AlikeRows(rows, dict(zip(names, values, strict=True)))


def rollouts_of(alike: AlikeRows, groups: Iterable[str]) -> list[Rollout] | None:
    """Return the rollouts of rows, or None if a value has to be looked at more closely.

    Args:
        alike: The rows; none of their values was read inexactly.
        groups: The group of each row, for rows that name none.
    """
    columns, types = alike.columns, alike.types
    if types.get("prompt") != _TEXT or types.get("completion") != _TEXT or not _OWN.isdisjoint(columns):
        return None
    if "group" in columns:
        if types["group"] == _TEXT:
            if not all(map(has_value, set(columns["group"]))):
                return None
        elif types["group"] != _INT:
            return None
        groups = columns["group"]
    if types.get("num_tokens", _INT) != _INT:
        return None
    reasons: Iterable[str | None] = repeat(None)
    if "finish_reason" in columns:
        if not types["finish_reason"] <= _TEXT_OR_NONE:
            return None
        known = {value: value if has_value(value) else None for value in set(columns["finish_reason"])}
        reasons = map(known.__getitem__, columns["finish_reason"])
    others = [name for name in columns if name not in _STANDARD]
    if not all(types[name] <= FLAT_TYPES for name in others):
        return None
    drafts = list(
        map(
            _Draft,
            columns["prompt"],
            columns["completion"],
            _dicts({name: columns[name] for name in others}, len(alike.rows)),
            groups,
            columns.get("num_tokens", repeat(None)),
            reasons,
        )
    )
    for draft in drafts:
        draft.__class__ = Rollout  # type: ignore[assignment]
    return cast("list[Rollout]", drafts)


def _dicts(columns: Mapping[str, Sequence[Any]], count: int) -> Iterator[ReadOnlyDict]:
    if not columns:
        return map(ReadOnlyDict, repeat((), count))
    names = list(columns)
    return map(ReadOnlyDict, map(zip, repeat(names), zip(*columns.values(), strict=True)))


class _Draft:
    """A rollout that is being made. Setting the attributes of a frozen dataclass takes five times as long.

    Its slots are those of a rollout, so that it can become one. Nothing is left to do that making a rollout does: its texts are texts, and
    its fields are read-only.
    """

    __slots__ = ("completion", "fields", "finish_reason", "group", "num_tokens", "prompt")

    def __init__(
        self,
        prompt: str,
        completion: str,
        fields: ReadOnlyDict,
        group: str | int | None,
        num_tokens: int | None,
        finish_reason: str | None,
    ) -> None:
        self.prompt = prompt
        self.completion = completion
        self.fields = fields
        self.group = group
        self.num_tokens = num_tokens
        self.finish_reason = finish_reason


_OWN = frozenset(OWN)
_STANDARD = frozenset(STANDARD)
_INT: frozenset[type] = frozenset({int})
_TEXT: frozenset[type] = frozenset({str})
_TEXT_OR_NONE = frozenset({str, type(None)})
