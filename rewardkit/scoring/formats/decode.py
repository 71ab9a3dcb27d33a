"""Turns raw rows into rollouts: parses JSON, and takes prompt, completion and fields from the columns.

A row that can't be used is rejected with its place and the reason; it never stops a run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from rewardkit.config.paths import add_field_paths
from rewardkit.read_only import FLAT_TYPES, ReadOnlyDict, has_value
from rewardkit.scoring.columns.columns import OWN, Columns, is_chat, kind_of
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode_columns import AlikeRows, alike_rows, rollouts_of
from rewardkit.scoring.formats.format import RawRow, UnreadableRow
from rewardkit.scoring.formats.readers import Chunk
from rewardkit.types import Rollout, Text

_OWN = frozenset(OWN)
_pop = dict.pop
_NESTED = frozenset({float, dict, list})
_MAX_EXACT = 2.0**63
"""orjson silently reads integers of more than 64 bits as floats. A float this large may have been one."""


MAX_DEPTH = 200
"""Levels of lists and objects in a row. Deeper rows could be read but neither written back nor sent to other processes."""
_NESTING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected row."""

    file: str
    row: int
    reason: str
    raw: str
    kind: str = ""
    """The kind of failure of a row that could be read and not be worked on; empty otherwise."""
    unit: str = ""
    """The first of the rows that failed together."""

    def line(self) -> bytes:
        """Return its line in the file of rejected rows."""
        data: dict[str, Any] = {"file": self.file, "row": self.row, "reason": self.reason, "raw": self.raw}
        if self.kind:
            data |= {"kind": self.kind, "unit": self.unit}
        return json.dumps(data).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The usable rows of a chunk, and the rejected ones."""

    rows: list[dict[str, Any]]
    """Rows as they will be written, with the new names of renamed columns."""
    rollouts: list[Rollout]
    """For each of ``rows``."""
    sources: Sequence[int]
    """For each of ``rows`` its index in the chunk."""
    odd: set[int]
    """Indices of rows that orjson can't write back unchanged: with NaN, lone surrogates or huge numbers."""
    rejected: list[Rejected]
    alike: AlikeRows | None = None
    """The columns of ``rows``, where all rows have the same."""


def decode(chunk: Chunk, columns: Columns, paths: Sequence[str] = ()) -> Decoded:
    """Turn the rows of a chunk into rollouts. Rows that can't be used are in ``rejected``.

    Args:
        chunk: The rows.
        columns: How columns become the parts of a rollout.
        paths: The reward's ``field_paths``.
    """
    if columns.is_plain and (found := _decode_alike(chunk, paths)) is not None:
        return found
    rows: list[dict[str, Any]] = []
    rollouts: list[Rollout] = []
    sources: list[int] = []
    odd: set[int] = set()
    rejected: list[Rejected] = []
    plain = columns.is_plain
    groups = _Groups(paths)
    for source, raw in enumerate(chunk.rows):
        before = len(rows)
        try:
            row, is_odd = read_row(raw)
            if plain and type(row.get("completion")) is str and "prompt" in row and _OWN.isdisjoint(row):
                rollouts.append(_rollout(row, groups))
                rows.append(row)
                sources.append(source)
            else:
                made = [(part, _rollout(part, groups)) for part in columns.rows(row)]
                rows.extend(part for part, _ in made)
                rollouts.extend(rollout for _, rollout in made)
                sources.extend([source] * len(made))
            if is_odd or columns.json_columns:
                odd.update(range(before, len(rows)))
        except RowError as error:
            rejected.append(Rejected(chunk.files[source], chunk.numbers[source], str(error), raw_text(raw)))
    return Decoded(rows, rollouts, sources, odd, rejected)


def _decode_alike(chunk: Chunk, paths: Sequence[str]) -> Decoded | None:
    """Decode a chunk by columns; None if it must be done row by row, which tells what is wrong with a row."""
    alike = alike_rows(chunk.rows)
    if alike is None or "prompt" not in alike.columns or not _OWN.isdisjoint(alike.columns):
        return None
    nested = [name for name, types in alike.types.items() if not types.isdisjoint(_NESTED)]
    if any(_is_odd(value) for name in nested for value in alike.columns[name]):
        return None
    if any(type(raw) is bytes and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH for raw in chunk.rows if nested):
        return None
    groups = _Groups(paths)
    rollouts = None if paths else rollouts_of(alike, map(groups.of, alike.columns["prompt"]))
    if rollouts is None:
        if any(type(value) is not str for value in alike.columns.get("completion", [None])):
            return None
        try:
            rollouts = [_rollout(row, groups) for row in alike.rows]
        except RowError:
            return None
    return Decoded(alike.rows, rollouts, range(len(alike.rows)), set(), [], alike)


def read_row(raw: RawRow) -> tuple[dict[str, Any], bool]:
    """Return the columns of a row, and True if orjson could not write it back unchanged. Raises RowError."""
    if isinstance(raw, dict):
        return raw, any(map(_is_odd, raw.values()))
    if isinstance(raw, UnreadableRow):
        raise RowError(raw.reason)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and (depth := _depth(raw)) > MAX_DEPTH:
        raise RowError(f"nested {depth} levels deep; at most {MAX_DEPTH} can be read")
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _object(_standard_loads(raw)), True
    if type(row) is dict:
        for value in row.values():
            if type(value) in _NESTED and _is_odd(value):
                return _object(_standard_loads(raw)), True
        return row, False
    return _object(row), False


def write_row(row: Mapping[str, Any], *, odd: bool = False) -> bytes:
    """Return a row as a line of JSON. The standard library writes rows that orjson can't write unchanged."""
    if not odd:
        try:
            return orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:  # nested too deeply for orjson
            pass
    return json.dumps(row, default=_plain, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def raw_text(raw: RawRow) -> str:
    """Return a rejected row as text. Bytes that are not UTF-8 are escaped."""
    if isinstance(raw, UnreadableRow):
        return raw.raw
    if isinstance(raw, bytes):
        return raw.rstrip(b"\r").decode("utf-8", "backslashreplace")
    return json.dumps(raw, default=_plain, ensure_ascii=False)


def group_key(prompt: Text) -> str:
    """Return the group of rows that name none: a hash of the prompt, in 16 hexadecimal digits."""
    if isinstance(prompt, str):
        data = prompt.encode("utf-8", "surrogatepass")
    else:
        data = json.dumps(prompt, sort_keys=True, default=_plain).encode()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class _Groups:
    """Computes groups from prompts. Most rollouts of one prompt follow each other, so the last one is remembered."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self.paths = paths
        self._prompt: Text | None = None
        self._key = ""

    def of(self, prompt: Text) -> str:
        if prompt != self._prompt:
            self._prompt = prompt
            self._key = group_key(prompt)
        return self._key


def _rollout(row: dict[str, Any], groups: _Groups) -> Rollout:
    # The columns that become fields are copied once: into a read-only dict if no value has to be converted.
    is_flat = not groups.paths and FLAT_TYPES.issuperset(map(type, row.values()))
    fields: dict[str, Any] = ReadOnlyDict(row) if is_flat else row.copy()
    prompt, completion = _pop(fields, "prompt", None), _pop(fields, "completion", None)
    if type(prompt) is not str and not (isinstance(prompt, list) and is_chat(prompt)):
        raise RowError(_not_text("prompt", prompt, row))
    if type(completion) is not str and not (isinstance(completion, list) and is_chat(completion)):
        raise RowError(_not_text("completion", completion, row))
    group = group_of_row(_pop(fields, "group", None))
    if group is None:
        group = groups.of(prompt)
    num_tokens = _pop(fields, "num_tokens", None)
    if type(num_tokens) is not int:
        num_tokens = _whole("num_tokens", num_tokens, "a whole number") if has_value(num_tokens) else None
    finish_reason = _pop(fields, "finish_reason", None)
    if not has_value(finish_reason):
        finish_reason = None
    elif type(finish_reason) is not str:
        hint = _list_hint("finish_reason", finish_reason)
        raise RowError(f"'finish_reason' must be text, and is {kind_of(finish_reason)}{hint}")
    if groups.paths:
        add_field_paths(fields, groups.paths)
    return Rollout(prompt, completion, fields, group, num_tokens, finish_reason)


def _not_text(name: str, value: Any, row: Mapping[str, Any]) -> str:
    if name not in row:
        return f"there is no column {name!r}; columns are {', '.join(row) or 'none'}"
    return f"{name!r} must be text or a list of chat messages, and is {kind_of(value)}"


def group_of_row(group: Any) -> str | int | None:
    """Return the group that a row names; None if it names none. Raises RowError."""
    if type(group) is int:
        return group
    if not has_value(group):
        return None
    return group if type(group) is str else _whole("group", group, "text or a whole number")


def _whole(name: str, value: Any, expected: str) -> int:
    # Parquet files written by pandas turn whole numbers into floats where one is missing.
    if isinstance(value, float | Decimal) and value == value // 1:
        return int(value)
    raise RowError(f"{name!r} must be {expected}, and is {kind_of(value)}{_list_hint(name, value)}")


def _list_hint(name: str, value: Any) -> str:
    return f"; if it is one per completion, add --explode {name}" if isinstance(value, list) else ""


def _is_odd(value: Any) -> bool:
    """Return True if a value holds a float that orjson may have made from a huge integer, or can't write (NaN, infinities)."""
    kind = type(value)
    if kind is float:
        return not -_MAX_EXACT < value < _MAX_EXACT
    if kind is dict:
        return any(map(_is_odd, value.values()))
    if kind is list:
        return any(map(_is_odd, value))
    return False


def _depth(raw: bytes) -> int:
    """Return the depth of nested lists and objects."""
    depth = deepest = 0
    for token in _NESTING.finditer(raw):
        sign = token[0]
        if sign in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in b"]}":
            depth -= 1
    return deepest


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RowError(f"a row must be a JSON object, found {kind_of(row)}")
    return row


def _standard_loads(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: byte 0x{raw[error.start]:02x} at character {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {error.msg} at character {error.colno}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise RowError(f"not JSON that can be read: {error}") from error
    except RecursionError as error:
        raise RowError("not JSON that can be read: nested too deeply") from error


def _plain(value: Any) -> Any:
    """Return JSON data for a value of a type that JSON lacks."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
