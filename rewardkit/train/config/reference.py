"""The reference of all keys of a training configuration, made from its pydantic models. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration."""

    name: str
    """The dotted path, as ``--set`` takes it."""
    kind: str
    """The type of its value, in words."""
    default: str
    """The default in YAML; empty if the key is required."""
    meaning: str


def schema_of(config: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a stage's configuration, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(config).json_schema()}


def keys_of(config: type[BaseModel]) -> list[Key]:
    """Return every key of a stage's configuration in order. The keys of a section follow the section."""
    schema = TypeAdapter(config).json_schema()
    return list(_keys(schema, schema["$defs"], "", {}))


def _keys(
    schema: Mapping[str, Any], known: Mapping[str, Any], above: str, defaults: Mapping[str, Any]
) -> Iterator[Key]:
    for name, value in schema["properties"].items():
        path = f"{above}{name}"
        default = defaults.get(name, value.get("default"))
        is_needed = name in schema.get("required", ()) and name not in defaults
        shown = default if isinstance(default, str) else json.dumps(default)
        yield Key(path, _kind(value, known), "" if is_needed else shown, _meaning(value, known))
        for option in value.get("anyOf", [value]):
            if "$ref" in option:
                inside = default if isinstance(default, dict) else {}
                yield from _keys(_section(option, known), known, f"{path}.", inside)


def _section(option: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = known[option["$ref"].rpartition("/")[2]]
    return found


def _meaning(value: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the description of a key, or that of its section."""
    words = value.get("description")
    if words is None:
        sections = [_section(option, known) for option in value.get("anyOf", [value]) if "$ref" in option]
        words = sections[0].get("description", "") if sections else ""
    return " ".join(words.split())


def _kind(value: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the type of a value in words, such as a choice, a path, or a number with its bounds."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(option, known) for option in value["anyOf"]))
    if "const" in value:
        return json.dumps(value["const"])
    if "enum" in value:
        return " | ".join(map(str, value["enum"]))
    if "$ref" in value:
        return "section"
    if value.get("type") == "null":
        return "null"
    if value.get("format") == "path":
        return "path"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return " ".join([_KINDS.get(value.get("type", ""), "anything"), *bounds])
