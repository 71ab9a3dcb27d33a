"""Reports violations of a JSON Schema in plain words, each with its place in the YAML file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from rewardkit.config.yaml import Document
from rewardkit.errors import Location

_TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}


def schema_problems(document: Document, schema: dict[str, Any]) -> list[tuple[Location | None, str]]:
    """Return every violation of a schema, in the order of the file.

    Args:
        document: The data, with the place of each value.
        schema: The JSON Schema.

    Returns:
        Pairs of a place and a message.
    """
    found: dict[tuple[Location | None, str], None] = {}
    for error in Draft202012Validator(schema).iter_errors(document.data):
        for problem in _explain(error, document):
            found[problem] = None
    return sorted(found, key=lambda problem: (problem[0].line or 0, problem[0].column or 0) if problem[0] else (0, 0))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the most similar known word, or an empty string if none is similar."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)
    return f"; did you mean {close[0]!r}?" if close else ""


def show(value: Any) -> str:
    """Return a value in words for a message: shortened, and with its type where it could be mistaken."""
    if isinstance(value, str):
        return f"the text {value[:60]!r}{'…' if len(value) > 60 else ''}"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)


def _explain(error: ValidationError, document: Document) -> Iterator[tuple[Location | None, str]]:
    path = tuple(error.absolute_path)
    where = document.where(path)
    name = _name(path)
    rule, wanted, found = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties" and wanted is False:
        allowed = list(error.schema.get("properties", {}))
        for key in [key for key in found if key not in allowed]:
            hint = did_you_mean(key, allowed) or f"; allowed: {', '.join(allowed) or 'no keys at all'}"
            yield document.where_key((*path, key)), f"unknown key {key!r}{f' in {name}' if path else ''}{hint}"
    elif rule == "required":
        for key in [key for key in wanted if key not in found]:
            if key == "with":
                needed = _required_params(error)
                yield where, f"{name} needs 'with', setting {needed}"
            else:
                yield where, f"{name} lacks the key {key!r}"
    elif rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        expected = " or ".join(_TYPE_NAMES.get(kind, kind) for kind in kinds)
        yield where, f"{name} must be {expected}, found {show(found)}{_decimal_comma(found, kinds)}"
    elif rule in {"enum", "const"}:
        options = wanted if rule == "enum" else [wanted]
        words = [str(option) for option in options]
        hint = did_you_mean(found, words) if isinstance(found, str) else ""
        yield where, f"{name} must be {' or '.join(words)}, found {show(found)}{hint}"
    elif rule in {"anyOf", "oneOf"}:
        if path:
            yield from _explain_alternatives(error, document)
        elif not isinstance(found, dict):
            return
        elif "composites" in found and "routes" not in found:
            yield document.where_key(("composites",)), "composites need routes, which select the composite of each row"
        elif "routes" in found and "composites" not in found:
            yield document.where_key(("routes",)), "routes need composites to choose from"
        elif "components" in found:
            yield document.where_key(("composites",)), "has both components and composites; keep one of them"
        else:
            yield where, "lacks the key 'components'"
    elif rule == "pattern" and "propertyNames" in error.absolute_schema_path:
        yield (
            document.where_key((*path, found)),
            f"{found!r} is not a valid name: use letters, digits and underscores, and don't start with a digit",
        )
    elif rule in {"minItems", "maxItems"}:
        bound = "at least" if rule == "minItems" else "at most"
        yield where, f"{name} must have {bound} {wanted} items, found {len(found)}"
    elif rule == "minProperties":
        yield where, f"{name} is empty"
    elif rule == "maxProperties":
        yield where, f"{name} must have one key, found {', '.join(found)}"
    elif rule in {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}:
        bounds = {
            "minimum": "at least",
            "maximum": "at most",
            "exclusiveMinimum": "more than",
            "exclusiveMaximum": "less than",
        }
        yield where, f"{name} must be {bounds[str(rule)]} {wanted}, found {show(found)}"
    else:
        yield where, f"{name}: {error.message}"


def _explain_alternatives(error: ValidationError, document: Document) -> Iterator[tuple[Location | None, str]]:
    """Yield the types that all alternatives allow, or the problems of the alternative that matches best."""
    types = [option["type"] for option in error.validator_value if set(option) >= {"type"}]
    context = error.context or []
    deeper = [child for child in context if child.relative_path or child.validator not in {"type", "const", "enum"}]
    if deeper:
        yield from _explain(max(deeper, key=lambda child: len(child.relative_path)), document)
        return
    options = [value for child in context if child.validator == "enum" for value in child.validator_value]
    expected = [_TYPE_NAMES.get(str(kind), str(kind)) for kind in types if not options or kind != "string"]
    path = tuple(error.absolute_path)
    words = " or ".join(dict.fromkeys([*map(str, options), *expected]))
    yield document.where(path), f"{_name(path)} must be {words}, found {show(error.instance)}"


def _required_params(error: ValidationError) -> str:
    names = error.schema.get("properties", {}).get("with", {}).get("required", [])
    return ", ".join(repr(name) for name in names)


def _decimal_comma(found: Any, kinds: list[str]) -> str:
    """Return a hint with the number that a text was probably meant to be."""
    if isinstance(found, str) and {"number", "integer"} & set(kinds):
        try:
            number = float(found.replace(",", "."))
        except ValueError:
            return ""
        whole = number.is_integer() and not set(found) & set(".,eE")
        return f"; did you mean {int(number) if whole else number}?"
    return ""


def _name(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"
