"""Reads YAML 1.2 into plain data and records the line and column of every key and value.

It is stricter than YAML: keys are strings and unique, a file holds one document, and aliases must not expand a small file to a
huge one. The events come from libyaml; values are typed by the core schema of YAML 1.2, in which ``yes`` and ``off`` are text.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import yaml

from rewardkit.errors import ConfigError, Location

Path_: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead from the top to a value."""

MAX_VALUES = 100_000
"""The largest number of values in a document, after its aliases are expanded."""
MAX_DEPTH = 100
"""The largest number of mappings and lists that contain each other."""
MAX_INTEGER = 2**63
"""Integers of this size or more are refused."""
MAX_DIGITS = 100
"""Integers with more digits are not even converted."""

_TAGS = "tag:yaml.org,2002:"
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)


@dataclass(slots=True)
class Document:
    """Plain data with the location of every key and value."""

    file: str
    data: Any
    lines: list[str] = field(default_factory=list)
    """The lines of the text."""
    values: dict[Path_, Location] = field(default_factory=dict)
    """The location of each value, by its path."""
    keys: dict[Path_, Location] = field(default_factory=dict)
    """The location of each key, by the path of its value."""

    def where(self, path: Path_) -> Location:
        """Return the location of a value. If there is no such value, return that of the nearest mapping or list around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Location(self.file, 1, 1))

    def where_key(self, path: Path_) -> Location:
        """Return the location of the key of a value, or of the value if it has no key."""
        return self.keys.get(path) or self.where(path)


def read_yaml(file: Path | str) -> Document:
    """Read a YAML file.

    Args:
        file: The path, which is also the name in error messages.

    Raises:
        ConfigError: The file can't be opened, or ``parse_yaml`` refuses its text.
    """
    name = str(file)
    try:
        content = Path(file).read_bytes()
    except FileNotFoundError:
        folder = Path(file).parent
        near = difflib.get_close_matches(Path(file).name, [item.name for item in _yaml_files(folder)], n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else ""
        raise ConfigError((Location(name), f"there is no such file{hint}")) from None
    except OSError as error:
        raise ConfigError((Location(name), f"can't be read: {error.strerror}")) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _location(name, content[: error.start].decode("utf-8", "replace"))
        raise ConfigError((place, f"is not UTF-8 text (byte {error.start}); save the file as UTF-8")) from None
    # As open() does in text mode: the three kinds of line ends count once each.
    return parse_yaml(text.replace("\r\n", "\n").replace("\r", "\n"), name)


def _yaml_files(folder: Path) -> list[Path]:
    try:
        return [item for item in folder.iterdir() if item.suffix in {".yaml", ".yml"}]
    except OSError:
        return []


def parse_yaml(text: str, file: str = "<string>") -> Document:
    """Parse YAML text.

    Args:
        text: The text.
        file: The name of the file in error messages.

    Raises:
        ConfigError: The text is not valid YAML, or not the strict form that this module accepts.
    """
    document = Document(file, None, text.splitlines())
    root = _Composer(file, text).compose()
    document.data = _Builder(document).build(root, ())
    return document


def _location(file: str, before: str) -> Location:
    """Return the location after some text."""
    return Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _refuse(place: Location, problem: str) -> NoReturn:
    raise ConfigError((place, problem))


@dataclass(slots=True)
class _Node:
    """A scalar, list or mapping of the text."""

    kind: Literal["scalar", "list", "mapping"]
    place: Location
    tag: str
    value: Any
    """The text of a scalar, the nodes of a list, or the pairs of nodes of a mapping."""
    is_empty: bool = False
    """The scalar has no characters in the text."""


class _Composer:
    """Builds the graph of nodes from libyaml's events, in which an alias is the node of its anchor."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._count = 0
        self._anchors: dict[str, _Node] = {}
        self._open: set[str] = set()

    def compose(self) -> _Node:
        """Return the node of the only document. Raises ConfigError."""
        try:
            loader = _PARSER(self._text)
            try:
                return self._document(iter(loader.get_event, None))
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # Without a mark, libyaml gave up at the end of the text.
            place = Location(self._file, mark.line + 1, mark.column + 1) if mark else _location(self._file, self._text)
            _refuse(self._within(place), self._explain(error, place))
        except yaml.reader.ReaderError as error:
            # libyaml counts bytes, PyYAML's own parser counts characters.
            counted = self._text.encode() if _PARSER is not yaml.SafeLoader else None
            before = (
                self._text[: error.position] if counted is None else counted[: error.position].decode("utf-8", "ignore")
            )
            _refuse(_location(self._file, before), f"is not YAML: {error.reason}")
        except UnicodeEncodeError as error:
            place = _location(self._file, self._text[: error.start])
            _refuse(place, f"is not YAML: {self._text[error.start]!r} is no character")

    def _within(self, place: Location) -> Location:
        """Return a location, moved to the end of the last line if it lies behind the text."""
        last = self._text.count("\n") + 1
        return place if (place.line or 1) <= last else _location(self._file, self._text)

    def _explain(self, error: yaml.MarkedYAMLError, place: Location) -> str:
        lines = self._text.splitlines()
        shown = lines[place.line - 1] if place.line and place.line <= len(lines) else ""
        if "\t" in shown[: len(shown) - len(shown.lstrip())] or shown[(place.column or 1) - 1 :].startswith("\t"):
            return "a tab stands where YAML wants spaces; indent with spaces"
        problem = " ".join(str(error.problem or error).split())
        context = f" {' '.join(str(error.context).split())}," if error.context else ""
        return f"is not YAML:{context} {problem}"

    def _document(self, events: Iterator[Any]) -> _Node:
        root = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                first = next(events)
                if root is not None:
                    _refuse(self._place(first), "holds a second YAML document; keep one per file")
                root = self._node(first, events, 0)
        if root is None:
            _refuse(Location(self._file, 1, 1), "is empty")
        return root

    def _place(self, event: Any) -> Location:
        return Location(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                _refuse(self._anchors[event.anchor].place, f"anchor {event.anchor!r} contains itself")
            if event.anchor not in self._anchors:
                _refuse(place, f"is not YAML: found undefined alias {event.anchor!r}")
            return self._anchors[event.anchor]
        self._count += 1
        if self._count > MAX_VALUES:
            _refuse(place, f"holds more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            _refuse(place, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            is_empty = not event.style and event.start_mark.index == event.end_mark.index
            node = _Node("scalar", place, _scalar_tag(event), event.value, is_empty)
            if event.anchor:
                self._anchors[event.anchor] = node
            return node
        is_list = isinstance(event, yaml.SequenceStartEvent)
        default = f"{_TAGS}{'seq' if is_list else 'map'}"
        tag = default if event.tag in {None, "!"} else event.tag
        node = _Node("list" if is_list else "mapping", place, tag, [])
        if event.anchor:
            self._anchors[event.anchor] = node
            self._open.add(event.anchor)
        if is_list:
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                node.value.append(self._node(item, events, depth + 1))
        else:
            while not isinstance(key := next(events), yaml.MappingEndEvent):
                pair = self._node(key, events, depth + 1)
                node.value.append((pair, self._node(next(events), events, depth + 1)))
        if event.anchor:
            self._open.discard(event.anchor)
        return node


def _scalar_tag(event: Any) -> str:
    """Return the tag of a scalar: the explicit one, or the type of a plain scalar in the core schema."""
    if event.tag not in {None, "!"}:
        return str(event.tag)
    if event.style or event.tag == "!":
        return f"{_TAGS}str"
    value = event.value
    if value in _NULL:
        return f"{_TAGS}null"
    if value in _BOOL:
        return f"{_TAGS}bool"
    if _INT.fullmatch(value):
        return f"{_TAGS}int"
    return f"{_TAGS}float" if _FLOAT.fullmatch(value) else f"{_TAGS}str"


def _plain(kind: str, text: str) -> bool | int | float | None:
    """Return the value of a scalar of a kind. Raises ValueError if the text is not of that kind."""
    if kind == "null" and text in _NULL:
        return None
    if kind == "bool" and text in _BOOL:
        return _BOOL[text]
    digits = text.replace("_", "")
    if kind == "int" and _INT.fullmatch(text):
        sign, digits = -1 if digits.startswith("-") else 1, digits.lstrip("+-")
        base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
        return sign * (int(digits, base) if len(digits) < MAX_DIGITS else MAX_INTEGER)
    if kind == "float" and (_FLOAT.fullmatch(text) or _INT.fullmatch(text)):
        # Python writes .inf and .nan without the point.
        return float(digits.replace(".", "", 1) if digits.lower().endswith((".inf", ".nan")) else digits)
    raise ValueError(text)


class _Builder:
    """Turns the graph of nodes into a tree of plain data."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def build(self, node: _Node, path: Path_) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            _refuse(node.place, f"aliases expand this file to more than {MAX_VALUES:,} values")
        if len(path) > MAX_DEPTH:
            _refuse(node.place, f"is nested deeper than {MAX_DEPTH} levels")
        self._document.values[path] = node.place
        if node.kind == "scalar":
            return self._scalar(node)
        if node.tag not in {f"{_TAGS}seq", f"{_TAGS}map"}:
            _refuse(node.place, f"the tag {node.tag} is not allowed; write plain lists and mappings")
        if node.kind == "mapping":
            return self._mapping(node, path)
        return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]

    def _scalar(self, node: _Node) -> Any:
        kind = node.tag.removeprefix(_TAGS)
        if kind in {"str", "timestamp"}:
            return node.value
        if kind not in {"int", "float", "bool", "null"}:
            _refuse(node.place, f"the tag {node.tag} is not allowed; write plain text, numbers, true, false or null")
        try:
            value = _plain(kind, node.value)
        except ValueError:
            _refuse(node.place, f"{node.value!r} is no {kind}")
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(node.place, f"{node.value} is no finite number")
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            _refuse(node.place, f"{node.value[:20]}… is too large a number")
        return value

    def _mapping(self, node: _Node, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[_Node] = []
        first: dict[str, Location] = {}
        for key_node, value_node in node.value:
            if key_node.kind != "scalar":
                _refuse(key_node.place, "a key must be plain text")
            key = key_node.value
            if key == "<<" or key_node.tag == f"{_TAGS}merge":
                merged.append(value_node)
                continue
            if key in first:
                _refuse(
                    key_node.place, f"key {key!r} stands here a second time (the first is on line {first[key].line})"
                )
            first[key] = key_node.place
            self._document.keys[*path, key] = key_node.place
            result[key] = self.build(value_node, (*path, key))
            if value_node.is_empty:
                # The parser only knows what comes after an empty value.
                self._document.values[*path, key] = key_node.place
        for source in merged:
            for key, value in self._merge(source, path):
                result.setdefault(key, value)
        return result

    def _merge(self, source: _Node, path: Path_) -> Iterator[tuple[str, Any]]:
        """Yield the keys and values of a ``<<``. Keys of the mapping itself take precedence."""
        for part in source.value if source.kind == "list" else [source]:
            if part.kind != "mapping":
                _refuse(part.place, "'<<' merges mappings only")
            values, keys = self._document.values, self._document.keys
            self._document.values, self._document.keys = {}, {}
            data = self.build(part, path)
            for place, location in self._document.values.items():
                values.setdefault(place, location)
            for place, location in self._document.keys.items():
                keys.setdefault(place, location)
            self._document.values, self._document.keys = values, keys
            yield from data.items()
