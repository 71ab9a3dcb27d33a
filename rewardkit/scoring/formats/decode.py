"""Turns raw rows into rollouts: parses JSON, renames columns and splits lists of completions.

A row that can't be used is rejected with its place and the reason; it never stops a run.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from rewardkit.errors import UsageError
from rewardkit.read_only import FLAT_TYPES, ReadOnlyDict, has_value
from rewardkit.scoring.formats.format import RawRow, UnreadableRow
from rewardkit.scoring.formats.readers import Chunk
from rewardkit.types import Rollout, Text

if TYPE_CHECKING:
    import pyarrow as pa

    from rewardkit.config.spec import RewardConfig

STANDARD = ("prompt", "completion", "group", "num_tokens", "finish_reason")
"""Columns with a meaning. All others become the fields of a rollout."""
OWN = ("reward", "reward_status", "reward_id", "components")
"""Columns that scoring adds. They are replaced when a scored file is scored again."""

_OWN = frozenset(OWN)
_pop = dict.pop
_NESTED = frozenset({float, dict, list})
_MAX_EXACT = 2.0**63
"""orjson silently reads integers of more than 64 bits as floats. A float this large may have been one."""


MAX_DEPTH = 200
"""Levels of lists and objects in a row. Deeper rows could be read but neither written back nor sent to other processes."""
_NESTING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


class RowError(ValueError):
    """A row can't be used."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected row."""

    file: str
    row: int
    reason: str
    raw: str

    def line(self) -> bytes:
        """Return its line in the file of rejected rows."""
        data = {"file": self.file, "row": self.row, "reason": self.reason, "raw": self.raw}
        return json.dumps(data).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The usable rows of a chunk, and the rejected ones."""

    rows: list[dict[str, Any]]
    """Rows as they will be written, with the new names of renamed columns."""
    rollouts: list[Rollout]
    """For each of ``rows``."""
    sources: list[int]
    """For each of ``rows`` its index in the chunk."""
    odd: set[int]
    """Indices of rows that orjson can't write back unchanged: with NaN, lone surrogates or huge numbers."""
    rejected: list[Rejected]


@dataclass(frozen=True, slots=True)
class Columns:
    """How columns are renamed and split (``--map`` and ``--explode``)."""

    renames: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """New name → the old one, or several paths whose values become a list."""
    explode: tuple[str, ...] = ()
    """List columns that are split together with a list of completions."""

    @classmethod
    def parse(cls, maps: Sequence[str] = (), explode: Sequence[str] = ()) -> Columns:
        """Parse ``NEW=OLD[,OLD…]`` and ``COL[,COL…]`` of the command line.

        Raises:
            UsageError: An option has another form, or names a column twice.
        """
        renames: dict[str, tuple[str, ...]] = {}
        for text in maps:
            new, equals, old = (part.strip() for part in text.partition("="))
            paths = tuple(part.strip() for part in old.split(","))
            if not new or not equals or not all(paths):
                raise UsageError(f"--map {text}: write NEW=OLD, such as --map completion=response")
            if new in renames:
                raise UsageError(f"--map gives column {new!r} twice")
            if new in _OWN:
                raise UsageError(f"--map {text}: {new!r} is a column that scoring writes; choose another name")
            renames[new] = paths
        names = [name.strip() for text in explode for name in text.split(",") if name.strip()]
        return cls(renames, tuple(dict.fromkeys(name for name in names if name != "completion")))

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for an earlier run to have read rows in the same way."""
        return {"map": {new: list(paths) for new, paths in self.renames.items()}, "explode": list(self.explode)}

    def rename(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its columns renamed. Raises RowError."""
        if not self.renames:
            return row
        new: dict[str, Any] = {}
        moved = set()
        for name, paths in self.renames.items():
            if len(paths) > 1:
                new[name] = [_look_up(row, path) for path in paths]
            elif paths[0] in row:
                new[name] = row[paths[0]]
                moved.add(paths[0])
            else:
                new[name] = _look_up(row, paths[0])
        result = {name: value for name, value in row.items() if name not in moved}
        for name in new:
            if name in result:
                raise RowError(
                    f"there is a column {name!r} already; give it another name too, with --map old_{name}={name}"
                )
        result.update(new)
        return result

    def rows(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield one row per completion. Raises RowError."""
        row = self.rename(row)
        if not _OWN.isdisjoint(row):
            row = _without_own(row)
        completion = row.get("completion")
        if not isinstance(completion, list) or _is_chat(completion):
            yield row
            return
        if not completion:
            raise RowError("'completion' is an empty list")
        if "completion_index" in row:
            raise RowError("a list of completions, and a column 'completion_index' already; rename it with --map")
        for name in self.explode:
            values = row.get(name)
            if not isinstance(values, list):
                raise RowError(
                    f"column {name!r} is to go along with the completions and is {_kind(values)}, not a list"
                )
            if len(values) != len(completion):
                raise RowError(f"{len(completion)} completions, but column {name!r} has {len(values)} values")
        for index, item in enumerate(completion):
            taken = {name: row[name][index] for name in self.explode}
            yield {**row, **taken, "completion": item, "completion_index": index}

    def types(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Arrow types of the columns after renaming and splitting; columns of unknown type are left out."""
        if not types:
            return {}
        import pyarrow as pa

        result: dict[str, Any] = {name: kind for name, kind in types.items() if name not in _OWN}
        for name, paths in self.renames.items():
            if len(paths) == 1 and paths[0] in types:
                result.pop(paths[0], None)
                result[name] = types[paths[0]]
            elif (kind := _type_at(types, paths[0])) is not None:
                result[name] = kind if len(paths) == 1 else pa.list_(kind)
        completions = result.get("completion")
        if completions is not None and is_list(completions) and not pa.types.is_struct(completions.value_type):
            for name in ("completion", *self.explode):
                if name in result and is_list(result[name]):
                    result[name] = result[name].value_type
        return result


def field_paths(config: RewardConfig) -> tuple[str, ...]:
    """Return the fields that a reward reads by a path into nested columns, such as ``reward_model.ground_truth``."""
    names = {*config.needed_fields(), *(name for route in config.routes for name in route.match)}
    return tuple(sorted(name for name in names if "." in name))


def add_field_paths(fields: dict[str, Any], paths: Sequence[str]) -> None:
    """Add the values at paths into nested columns to a rollout's fields, under the paths. A column of that name goes first."""
    for path in paths:
        if path not in fields:
            with contextlib.suppress(KeyError):
                fields[path] = _walk(fields, path)


def decode(chunk: Chunk, columns: Columns, paths: Sequence[str] = ()) -> Decoded:
    """Turn the rows of a chunk into rollouts. Rows that can't be used are in ``rejected``.

    Args:
        chunk: The rows.
        columns: How columns become the parts of a rollout.
        paths: What ``field_paths`` returned for the reward.
    """
    rows: list[dict[str, Any]] = []
    rollouts: list[Rollout] = []
    sources: list[int] = []
    odd: set[int] = set()
    rejected: list[Rejected] = []
    plain = not columns.renames
    groups = _Groups(paths)
    for source, raw in enumerate(chunk.rows):
        before = len(rows)
        try:
            row, is_odd = read_row(raw)
            if plain and type(row.get("completion")) is str and _OWN.isdisjoint(row):
                rollouts.append(_rollout(row, groups))
                rows.append(row)
                sources.append(source)
            else:
                made = [(part, _rollout(part, groups)) for part in columns.rows(row)]
                rows.extend(part for part, _ in made)
                rollouts.extend(rollout for _, rollout in made)
                sources.extend([source] * len(made))
            if is_odd:
                odd.update(range(before, len(rows)))
        except RowError as error:
            rejected.append(Rejected(chunk.files[source], chunk.numbers[source], str(error), raw_text(raw)))
    return Decoded(rows, rollouts, sources, odd, rejected)


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
    if type(prompt) is not str and not (isinstance(prompt, list) and _is_chat(prompt)):
        raise RowError(_not_text("prompt", prompt, row))
    if type(completion) is not str and not (isinstance(completion, list) and _is_chat(completion)):
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
        raise RowError(f"'finish_reason' must be text, and is {_kind(finish_reason)}{hint}")
    if groups.paths:
        add_field_paths(fields, groups.paths)
    return Rollout(prompt, completion, fields, group, num_tokens, finish_reason)


def _not_text(name: str, value: Any, row: Mapping[str, Any]) -> str:
    if name not in row:
        return f"there is no column {name!r}; columns are {', '.join(row) or 'none'}"
    return f"{name!r} must be text or a list of chat messages, and is {_kind(value)}"


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
    raise RowError(f"{name!r} must be {expected}, and is {_kind(value)}{_list_hint(name, value)}")


def _list_hint(name: str, value: Any) -> str:
    return f"; if it is one per completion, add --explode {name}" if isinstance(value, list) else ""


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"text ({value[:40]!r})"
    if isinstance(value, list):
        return f"a list of {len(value)}" + (f", the first {_kind(value[0])}" if value else "")
    if value is None:
        return "missing (null)"
    return "an object" if isinstance(value, Mapping) else f"{type(value).__name__} {value!r}"


def _is_chat(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) and "role" in item for item in value)


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
        raise RowError(f"a row must be a JSON object, found {_kind(row)}")
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


def _without_own(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("reward_id") is None:
        found = next(name for name in OWN if name in row)
        raise RowError(
            f"column {found!r} would be overwritten by the score; keep it under another name, with --map old_{found}={found}"
        )
    return {name: value for name, value in row.items() if name not in _OWN}


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a column, or at a path into nested columns such as ``prompt.0.content``; None if there is none."""
    if path in row:
        return row[path]
    try:
        return _walk(row, path)
    except KeyError:
        return None


def _walk(row: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, whose parts that are numbers go into lists. Raises KeyError if there is none."""
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(path)
    return value


def _look_up(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a column or at a path. Raises RowError if there is none."""
    if path in row:
        return row[path]
    try:
        return _walk(row, path)
    except KeyError:
        raise RowError(f"there is no value at {path!r}, which --map reads{_suggestion(path, row)}") from None


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return which known name was perhaps meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _type_at(types: Mapping[str, pa.DataType], path: str) -> pa.DataType | None:
    if path in types:
        return types[path]
    import pyarrow as pa

    first, *parts = path.split(".")
    kind = types.get(first)
    for part in parts:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def is_struct(kind: Any) -> bool:
    """Return whether an Arrow type is a struct."""
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def is_list(kind: Any) -> bool:
    """Return whether an Arrow type is a list."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _plain(value: Any) -> Any:
    """Return JSON data for a value of a type that JSON lacks."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
