"""A reward type's parameters: as JSON Schema, and as an instance made from checked data."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rewardkit.types import RewardType


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
                schema["properties"][item.name].setdefault("default", item.default_factory())
    _tidy(schema)
    return schema


def params_schema(reward_type: RewardType) -> dict[str, Any]:
    """The JSON Schema of what may stand under ``with``. Unknown keys are refused at every level.

    Raises:
        pydantic.errors.PydanticUserError: A parameter's type has no JSON Schema.
    """
    params: Any = reward_type.params  # a class is hashable, whatever its metaclass
    return _schema(params)


def make_params(reward_type: RewardType, data: dict[str, Any]) -> Any:
    """An instance of the parameters from data that the schema has passed.

    Raises:
        ValueError: What the schema can't express is wrong (the class's own checks); one line per problem.
    """
    try:
        params: Any = reward_type.params
        return _adapter(params).validate_python(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {text}" if where else text)
        raise ValueError("; ".join(lines)) from None


def _tidy(schema: Any) -> None:
    """Refuses unknown keys where pydantic leaves it open, and drops titles that only repeat the names."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
        return
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
        for child in schema["properties"].values():
            if isinstance(child, dict):
                child.pop("title", None)
    if isinstance(schema.get("title"), str):
        schema.pop("title")
    for key, value in schema.items():
        if key not in {"default", "const", "enum", "examples"}:
            _tidy(value)
