"""Finds the functions that a reward file names, without importing them."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATTERN = r"^[^:\s][^:]*:[A-Za-z_][A-Za-z0-9_.]*$"
"""Matches a ``use`` that names a function."""


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function that a reward file names, found without importing it."""

    target: str
    """``/absolute/file.py:name`` or ``package.module:name``, by which a worker process imports it."""
    version: str
    """A hash of its file."""
    parameters: Mapping[str, bool] | None
    """The function's parameters, and whether each has a default; None if the file has no plain ``def`` of this name."""
    is_async: bool = False
    """True if it is a plain ``async def``."""

    @classmethod
    def find(cls, use: str, folder: Path) -> FunctionSource:
        """Find the function that a ``use`` names.

        Args:
            use: ``file.py:name`` or ``package.module:name``.
            folder: What relative paths are relative to: the folder of the reward file.

        Raises:
            ValueError: There is no such file, module or function, or the file is not Python.
        """
        where, _, name = use.rpartition(":")
        file = (folder / where).resolve() if where.endswith(".py") else _module_file(where)
        if file is None or not file.is_file():
            missing = f"there is no file {folder / where}" if where.endswith(".py") else f"there is no module {where!r}"
            raise ValueError(f"{missing}, which 'use: {use}' names")
        content = file.read_bytes()
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{file} is not Python: {error}") from None
        target = f"{file}:{name}" if where.endswith(".py") else use
        version = hashlib.blake2b(content, digest_size=8).hexdigest()
        is_async = any(
            isinstance(node, ast.AsyncFunctionDef) and node.name == name and not node.decorator_list
            for node in tree.body
        )
        return cls(target, version, _parameters(tree, name, file), is_async)


def is_function(use: str) -> bool:
    """Return True if a ``use`` names a function and not a plugin's reward."""
    return re.match(PATTERN, use) is not None


def _module_file(name: str) -> Path | None:
    """Return the file of a module, without importing it or its packages."""
    path: Sequence[str] | None = None
    spec = None
    parts = name.split(".")
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _parameters(tree: ast.Module, name: str, file: Path) -> dict[str, bool] | None:
    """Return the parameters of a function defined in a module; None where the module makes the name otherwise.

    Raises:
        ValueError: Nothing in the module can make that name.
    """
    bound = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == name:
                arguments = node.args
                ordered = [*arguments.posonlyargs, *arguments.args]
                first_optional = len(ordered) - len(arguments.defaults)
                found = {item.arg: index >= first_optional for index, item in enumerate(ordered)}
                found |= {
                    item.arg: default is not None
                    for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                }
                return None if node.decorator_list else found
            bound.add(node.name)
    text = {item.id for item in ast.walk(tree) if isinstance(item, ast.Name)} | bound
    text |= {
        alias.asname or alias.name
        for item in ast.walk(tree)
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    text |= {
        item.name for item in ast.walk(tree) if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if name.partition(".")[0] not in text and "*" not in text:
        raise ValueError(f"{file} has no function {name!r}; it has {', '.join(sorted(bound)) or 'none'}")
    return None
