"""Parameters under ``with``: their JSON Schema, and instances made from validated data."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, Protocol

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python


class HasParams(Protocol):
    """Anything that a configuration names with ``use`` and gives settings with ``with``."""

    @property
    def params(self) -> Any:
        """The class of its parameters: a pydantic model or a dataclass."""


@functools.lru_cache(maxsize=512)
def _adapter(params: Any) -> TypeAdapter[Any]:
    return TypeAdapter(params)


@functools.lru_cache(maxsize=512)
def _schema(params: Any) -> dict[str, Any]:
    schema = _adapter(params).json_schema()
    if dataclasses.is_dataclass(params):
        for item in dataclasses.fields(params):
            if (doc := item.metadata.get("doc")) and item.name in schema.get("properties", {}):
                schema["properties"][item.name].setdefault("description", doc)
            if item.default_factory is not dataclasses.MISSING and item.name in schema.get("properties", {}):
                schema["properties"][item.name].setdefault("default", plain_params(item.default_factory()))
    _tidy(schema)
    return schema


def params_schema(kind: HasParams) -> dict[str, Any]:
    """Return the JSON Schema of the parameters. Unknown keys are refused at every level.

    Args:
        kind: A type of rewards, engines or the like.

    Raises:
        pydantic.errors.PydanticUserError: The type of a parameter has no JSON Schema.
    """
    params: Any = kind.params  # A class is hashable, whatever its metaclass.
    return _schema(params)


def make_params(kind: HasParams, data: dict[str, Any]) -> Any:
    """Return an instance of the parameters.

    Args:
        kind: A type of rewards, engines or the like.
        data: The parameters, which are valid according to the schema.

    Raises:
        ValueError: The checks of the parameters' class fail. The message names every problem.
    """
    try:
        params: Any = kind.params
        return _adapter(params).validate_python(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {text}" if where else text)
        raise ValueError("; ".join(lines)) from None


def plain_params(params: Any) -> Any:
    """Return parameters as JSON data, including defaults. Sets are sorted, so the result is the same in every process.

    Args:
        params: An instance of the parameters, or a value inside it.
    """
    if isinstance(params, set | frozenset):
        return sorted((plain_params(item) for item in params), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(params, list | tuple):
        return [plain_params(item) for item in params]
    if isinstance(params, dict):
        keys = to_jsonable_python(dict.fromkeys(params))
        return {key: plain_params(value) for key, value in zip(keys, params.values(), strict=True)}
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        return {item.name: plain_params(getattr(params, item.name)) for item in dataclasses.fields(params)}
    if isinstance(params, BaseModel):
        return {name: plain_params(getattr(params, name)) for name in type(params).model_fields}
    return to_jsonable_python(params)


def _tidy(schema: Any) -> None:
    """Refuse unknown keys unless the schema allows them, and remove titles that repeat the names."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
        return
    if not isinstance(schema, dict):
        return
    schema.pop("title", None)
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    for key, value in schema.items():
        if key in {"properties", "$defs", "patternProperties"}:  # Names chosen by the plugin, each with a schema.
            for child in value.values():
                _tidy(child)
        elif key not in {"default", "const", "enum", "examples"}:
            _tidy(value)
