"""How the columns of a file become those of rollouts: ``--map``, ``--parse`` and ``--explode``, and rows of whole dialogues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewardkit.errors import DataError, UsageError
from rewardkit.scoring.columns.paths import (
    MapError,
    RowError,
    changed_at,
    is_list,
    is_struct,
    look_up,
    suggestion,
    type_at,
)
from rewardkit.scoring.columns.presets import Preset, preset_named

STANDARD = ("prompt", "completion", "group", "num_tokens", "finish_reason")
"""Columns with a meaning. All others become the fields of a rollout."""
OWN = ("reward", "reward_status", "reward_id", "components")
"""Columns that scoring adds. They are replaced when a scored file is scored again."""
MESSAGES = "messages"
"""The column of whole dialogues."""

_OWN = frozenset(OWN)


@dataclass(frozen=True, slots=True)
class Columns:
    """How columns are renamed, parsed and split (``--map``, ``--parse`` and ``--explode``)."""

    renames: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """New name → the old one, or several paths whose values become a list."""
    explode: tuple[str, ...] = ()
    """List columns that are split together with a list of completions."""
    preset: Preset | None = None
    """The columns of another system, for what is not in ``renames``."""
    json_columns: tuple[str, ...] = ()
    """Columns, or paths into nested ones, whose text is JSON."""

    @classmethod
    def parse(cls, maps: Sequence[str] = (), explode: Sequence[str] = (), parse: Sequence[str] = ()) -> Columns:
        """Parse the options of the command line.

        Args:
            maps: Each ``NEW=OLD[,OLD…]``, or ``@PRESET``.
            explode: Each ``COL[,COL…]``.
            parse: Each ``COL[,COL…]``.

        Raises:
            UsageError: An option has another form, names a column twice or an unknown preset.
        """
        renames: dict[str, tuple[str, ...]] = {}
        presets = [preset_named(text[1:].strip()) for text in maps if text.startswith("@")]
        if len(presets) > 1:
            raise UsageError(f"--map takes one preset, not both @{presets[0].name} and @{presets[1].name}")
        for text in (text for text in maps if not text.startswith("@")):
            new, equals, old = (part.strip() for part in text.partition("="))
            paths = tuple(part.strip() for part in old.split(","))
            if not new or not equals or not all(paths):
                raise UsageError(f"--map {text}: write NEW=OLD, such as --map completion=response, or @PRESET")
            if new in renames:
                raise UsageError(f"--map gives column {new!r} twice")
            if new in _OWN:
                raise UsageError(f"--map {text}: {new!r} is a column that scoring writes; choose another name")
            renames[new] = paths
        names = _names(explode)
        others = tuple(name for name in names if name != "completion")
        return cls(renames, others, presets[0] if presets else None, _names(parse))

    @property
    def is_plain(self) -> bool:
        """True if columns have their names already."""
        return not (self.renames or self.preset or self.json_columns)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for an earlier run to have read rows in the same way."""
        preset = {} if self.preset is None else {"preset": self.preset.name}
        parse = {"parse": list(self.json_columns)} if self.json_columns else {}
        return {
            "map": {new: list(paths) for new, paths in self.renames.items()},
            "explode": list(self.explode),
            **preset,
            **parse,
        }

    def rename(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its columns renamed, and a whole dialogue split into prompt and completion.

        Args:
            row: The row as it was read.

        Raises:
            RowError: A column is missing or there twice, or text is not JSON.
        """
        if not self.is_plain:
            row, later = self._parsed(row, self.json_columns)
            row = self._renamed(row)
            if self.preset is not None:
                row = self.preset.apply(row)
            row, _ = self._parsed(row, later)
        if "prompt" not in row and MESSAGES in row:
            row = _dialogue(row)
        return row

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = {}
        moved = set()
        for name, paths in self.renames.items():
            if len(paths) > 1:
                new[name] = [look_up(row, path) for path in paths]
            elif paths[0] in row:
                new[name] = row[paths[0]]
                moved.add(paths[0])
            else:
                new[name] = look_up(row, paths[0])
        result = {name: value for name, value in row.items() if name not in moved}
        for name in new:
            if name in result:
                raise MapError(
                    f"there is a column {name!r} already; give it another name too, with --map old_{name}={name}"
                )
        result.update(new)
        return result

    @staticmethod
    def _parsed(row: dict[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Return a row with JSON text read, and the columns that are not in it."""
        missing = []
        for name in names:
            try:
                row = changed_at(row, name, lambda text, name=name: _from_json(name, text))  # type: ignore[misc]  # one argument
            except KeyError:
                missing.append(name)
        return row, missing

    def refuse_without_effect(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Refuse options that concern none of the first rows of a file.

        Args:
            rows: The rows as they were read.
            file: Their file.

        Raises:
            DataError: The preset is of another system, or no row has a column that is to be parsed.
        """
        if not rows:
            return
        found = ", ".join(dict.fromkeys(name for row in rows for name in row))
        if self.preset is not None and not any(mark in row for row in rows for mark in self.preset.marks):
            marks = ", ".join(self.preset.marks)
            raise DataError(
                f"{file}: --map @{self.preset.name} knows rows by the columns {marks}, and there is none of them. "
                f"Its columns are {found}"
            )
        for name in self.json_columns:
            if not any(name in row or name in self.renames or name.split(".")[0] in row for row in rows):
                close = suggestion(name, dict.fromkeys(column for row in rows for column in row))
                raise DataError(f"{file}: --parse {name}: there is no such column{close}. Its columns are {found}")

    def rows(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield one row per completion.

        Args:
            row: The row as it was read.

        Raises:
            RowError: The row can't be used.
        """
        row = self.rename(row)
        if not _OWN.isdisjoint(row):
            row = _without_own(row)
        completion = row.get("completion")
        if not isinstance(completion, list) or is_chat(completion):
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
                    f"column {name!r} is to go along with the completions and is {kind_of(values)}, not a list"
                )
            if len(values) != len(completion):
                raise RowError(f"{len(completion)} completions, but column {name!r} has {len(values)} values")
        for index, item in enumerate(completion):
            taken = {name: row[name][index] for name in self.explode}
            yield {**row, **taken, "completion": item, "completion_index": index}

    def types(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Arrow types of the columns after renaming and splitting; columns of unknown type are left out.

        Args:
            types: The type of each column of the file.
        """
        if not types:
            return {}
        import pyarrow as pa

        types = {
            name: kind for name, kind in types.items() if name not in {path.split(".")[0] for path in self.json_columns}
        }
        result: dict[str, Any] = dict(types)
        for name, paths in self.renames.items():
            if len(paths) == 1 and paths[0] in types:
                result.pop(paths[0], None)
                result[name] = types[paths[0]]
            elif (kind := type_at(types, paths[0])) is not None:
                result[name] = kind if len(paths) == 1 else pa.list_(kind)
        if self.preset is not None:
            result = self.preset.types(result)
        result = {name: kind for name, kind in result.items() if name not in _OWN and name not in self.json_columns}
        if "prompt" not in result and MESSAGES in result:
            kind = result.pop(MESSAGES)
            result = {"prompt": kind, "completion": kind, **result}
        completions = result.get("completion")
        if completions is not None and is_list(completions) and not is_struct(completions.value_type):
            for name in ("completion", *self.explode):
                if name in result and is_list(result[name]):
                    result[name] = result[name].value_type
        return result


def _names(options: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for text in options for name in text.split(",") if name.strip()))


def _from_json(name: str, text: Any) -> Any:
    """Return what a column's JSON text says; other values stay as they are."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise RowError(f"--parse {name}: not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits, too
        raise RowError(f"--parse {name}: not JSON: {error}: {text[:40]!r}") from None


def _dialogue(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the last assistant turn of its dialogue as the completion, and what comes before as the prompt."""
    messages = row[MESSAGES]
    if not isinstance(messages, list) or not is_chat(messages):
        return row
    rest = {name: value for name, value in row.items() if name != MESSAGES}
    if "completion" in row:
        return {"prompt": messages, **rest}
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise RowError(
            f"'messages' ends with a turn of {messages[-1]['role']!r}, and there is no column 'completion': "
            "there is no completion to score"
        )
    return {"prompt": messages[:-1], "completion": messages[-1:], **rest}


def _without_own(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("reward_id") is None:
        found = next(name for name in OWN if name in row)
        raise RowError(
            f"column {found!r} would be overwritten by the score; keep it under another name, with --map old_{found}={found}"
        )
    return {name: value for name, value in row.items() if name not in _OWN}


def is_chat(value: Sequence[Any]) -> bool:
    """Return whether a list is one of chat messages."""
    return bool(value) and all(isinstance(item, Mapping) and "role" in item for item in value)


def kind_of(value: Any) -> str:
    """Return in words what a value is, for messages."""
    if isinstance(value, str):
        return f"text ({value[:40]!r})"
    if isinstance(value, list):
        return f"a list of {len(value)}" + (f", the first {kind_of(value[0])}" if value else "")
    if value is None:
        return "missing (null)"
    return "an object" if isinstance(value, Mapping) else f"{type(value).__name__} {value!r}"
