"""Paths into nested columns of a row, such as ``reward_model.ground_truth`` and ``choices.*.message.content``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

EACH = "*"
"""The part of a path that stands for every item of a list."""


def walk(value: Any, path: str) -> Any:
    """Return the value at a path. Parts that are numbers go into lists; ``*`` goes into each item, and gives a list.

    Args:
        value: An object or a list.
        path: Names and numbers, separated by dots.

    Raises:
        KeyError: There is no value.
    """
    parts = path.split(".")
    for index, part in enumerate(parts):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part == EACH:
            rest = ".".join(parts[index + 1 :])
            return [walk(item, rest) for item in value] if rest else value
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(path)
    return value


def add_field_paths(fields: dict[str, Any], paths: Sequence[str]) -> None:
    """Add the values at paths into nested columns to a rollout's fields, under the paths. A column of that name goes first.

    Args:
        fields: The fields, which are changed.
        paths: The paths.
    """
    for path in paths:
        if path not in fields:
            with contextlib.suppress(KeyError):
                fields[path] = walk(fields, path)
