"""Reads YAML 1.2 into plain data and remembers where everything stood.

Stricter than YAML itself: keys are strings and occur once, there is one document, and aliases may not blow a small file up.
Knows nothing of what the data mean.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rewardkit.errors import ConfigError, Location

Path_: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead from the top to a value."""

MAX_VALUES = 100_000
"""How many values a document may hold once its aliases are expanded."""
MAX_DEPTH = 100
MAX_INTEGER = 2**63
_MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Document:
    """Plain data with the place of every value and key."""

    file: str
    data: Any
    lines: list[str] = field(default_factory=list)
    """The text, to look at around a place."""
    values: dict[Path_, Location] = field(default_factory=dict)
    keys: dict[Path_, Location] = field(default_factory=dict)

    def where(self, path: Path_) -> Location:
        """The place of a value; of the nearest value around it where there is none."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Location(self.file, 1, 1))

    def where_key(self, path: Path_) -> Location:
        """The place of the key that a value stands under."""
        return self.keys.get(path) or self.where(path)


def read_yaml(file: Path | str) -> Document:
    """Read a file.

    Raises:
        ConfigError: It can't be opened, is no UTF-8, or is no YAML that this module takes.
    """
    name = str(file)
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = Path(file).parent
        near = difflib.get_close_matches(Path(file).name, [item.name for item in _list(folder)], n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else ""
        raise ConfigError((Location(name), f"there is no such file{hint}")) from None
    except OSError as error:
        raise ConfigError((Location(name), f"can't be read: {error.strerror}")) from None
    except UnicodeDecodeError as error:
        raise ConfigError((Location(name), f"is not UTF-8 text (byte {error.start})")) from None
    return parse_yaml(text, name)


def _list(folder: Path) -> list[Path]:
    try:
        return [item for item in folder.iterdir() if item.suffix in {".yaml", ".yml"}]
    except OSError:
        return []


def parse_yaml(text: str, file: str = "<string>") -> Document:
    """Read a string; ``file`` is the name used in messages. Raises ConfigError like ``read_yaml``."""
    yaml = YAML(typ="safe", pure=True)
    try:
        nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
        raise ConfigError((place, _explain(error, text, mark.line if mark else None))) from None
    except YAMLError as error:
        line = text[: error.position].count("\n") + 1 if hasattr(error, "position") else None
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise ConfigError((Location(file, line), f"is not YAML: {reason}")) from None
    except RecursionError:
        raise ConfigError((Location(file), f"is nested deeper than {MAX_DEPTH} levels")) from None
    # The reader fails in ways of its own on some texts, such as the escape "\UFFFFFFFF" or the line "%YAML 9".
    except Exception as error:  # noqa: BLE001
        raise ConfigError((Location(file), f"is not YAML: {error or type(error).__name__}")) from None
    documents = [node for node in nodes if node is not None]
    if not documents:
        raise ConfigError((Location(file, 1, 1), "is empty"))
    if len(documents) > 1:
        raise ConfigError((_place(file, documents[1]), "holds a second YAML document; keep one per file"))
    document = Document(file, None, text.splitlines())
    document.data = _Builder(yaml, document).build(documents[0], ())
    return document


def _explain(error: MarkedYAMLError, text: str, line: int | None) -> str:
    shown = text.splitlines()[line] if line is not None and line < len(text.splitlines()) else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "'\\t'" in str(error.problem):
        return "a tab stands where YAML wants spaces; indent with spaces"
    problem = " ".join(str(error.problem or error).split())
    context = f" {' '.join(str(error.context).split())}" if error.context else ""
    return f"is not YAML:{context} {problem}"


def _place(file: str, node: Node) -> Location:
    return Location(file, node.start_mark.line + 1, node.start_mark.column + 1)


class _Builder:
    """Turns the node graph into a tree of plain data."""

    def __init__(self, yaml: YAML, document: Document) -> None:
        self._constructor = yaml.constructor
        self._document = document
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: Node, path: Path_) -> Any:
        place = _place(self._document.file, node)
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError((place, f"aliases expand this file to more than {MAX_VALUES:,} values"))
        if len(path) > MAX_DEPTH:
            raise ConfigError((place, f"is nested deeper than {MAX_DEPTH} levels"))
        if id(node) in self._open:
            raise ConfigError((place, f"anchor {node.anchor!r} contains itself"))
        self._document.values[path] = place
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if (tag := str(node.tag)) not in {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}:
            raise ConfigError((place, f"the tag {tag} is not allowed; write plain lists and mappings"))
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: ScalarNode, place: Location) -> Any:
        tag = str(node.tag)
        if tag not in {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")}:
            raise ConfigError((place, f"the tag {tag} is not allowed; write plain text, numbers, true, false or null"))
        if tag.endswith(("str", "timestamp")):
            return node.value
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, LookupError, YAMLError):
            raise ConfigError((place, f"{node.value!r} is no {tag.rpartition(':')[2]}")) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError((place, f"{node.value} is no finite number"))
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            raise ConfigError((place, f"{node.value[:20]}… is too large a number"))
        return value

    def _mapping(self, node: Node, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[Node] = []
        first: dict[str, Location] = {}
        for key_node, value_node in node.value:
            place = _place(self._document.file, key_node)
            if key_node.tag == _MERGE_TAG or (isinstance(key_node, ScalarNode) and key_node.value == "<<"):
                merged.append(value_node)
                continue
            if not isinstance(key_node, ScalarNode):
                raise ConfigError((place, "a key must be plain text"))
            key = str(key_node.value)
            if key in first:
                raise ConfigError(
                    (place, f"key {key!r} stands here a second time (the first is on line {first[key].line})")
                )
            first[key] = place
            self._document.keys[*path, key] = place
            result[key] = self.build(value_node, (*path, key))
            if value_node.start_mark.index == value_node.end_mark.index:
                self._document.values[*path, key] = place  # of nothing the reader only knows what comes after it
        for source in merged:
            for key, value in self._merge(source, path):
                result.setdefault(key, value)
        return result

    def _merge(self, source: Node, path: Path_) -> Iterator[tuple[str, Any]]:
        """The keys of a ``<<`` value; what stands in the mapping itself wins over them."""
        parts = source.value if isinstance(source, SequenceNode) else [source]
        for part in parts:
            if not isinstance(part, MappingNode):
                raise ConfigError((_place(self._document.file, part), "'<<' merges mappings only"))
            values, keys = self._document.values, self._document.keys
            self._document.values, self._document.keys = {}, {}
            data = self.build(part, path)
            for place, location in self._document.values.items():
                values.setdefault(place, location)
            for place, location in self._document.keys.items():
                keys.setdefault(place, location)
            self._document.values, self._document.keys = values, keys
            yield from data.items()
