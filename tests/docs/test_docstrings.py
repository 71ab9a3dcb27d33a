"""Every public function, method and class documents its parameters, so that the API pages are complete."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from docstring_parser import DocstringStyle, parse

MODULES = ("rewardkit", "rewardkit.config", "rewardkit.testing", "rewardkit.train", "rewardkit_sandbox")
NOT_SHOWN = {"self", "cls"}
EXCEPTIONS = {"Opaque"}
"""Opaque is created by the sandbox alone, and its module is part of the images."""


def public(module: str) -> list[str]:
    """The functions and classes in ``__all__`` of a module."""
    found = importlib.import_module(module)
    return [
        name
        for name in found.__all__
        if inspect.isclass(getattr(found, name)) or inspect.isroutine(getattr(found, name))
    ]


def hooks() -> list[str]:
    """The names of all hooks of plugins."""
    module = importlib.import_module("rewardkit.hookspecs")
    return [name for name, value in vars(module).items() if hasattr(value, "rewardkit_spec")]


CASES = [(module, name) for module in MODULES for name in public(module) if name not in EXCEPTIONS]
CASES += [("rewardkit.hookspecs", name) for name in hooks()]


def described(text: str) -> set[str]:
    """The parameters that the ``Args`` section of a docstring describes."""
    found = parse(text, DocstringStyle.GOOGLE).params
    return {item.arg_name.lstrip("*") for item in found if (item.description or "").strip()}


def parameters(function: Any) -> list[str]:
    """The names of a function's parameters."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin
        return []
    return [name for name in signature.parameters if name not in NOT_SHOWN and not name.startswith("_")]


def fields_with_docstrings(cls: type) -> set[str]:
    """The attributes of a class that are followed by a docstring in its source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = tree.body
    return {
        first.target.id
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
    }


def undocumented(value: Any, name: str) -> Iterator[str]:
    """Yield the parameters and fields of a function or class that lack a description."""
    text = inspect.getdoc(value) or ""
    if not text:
        yield f"{name} has no docstring"
        return
    if not inspect.isclass(value):
        yield from (f"{name}({missing})" for missing in parameters(value) if missing not in described(text))
        return
    if not value.__module__.startswith("rewardkit"):
        return
    if dataclasses.is_dataclass(value):
        known = described(text) | fields_with_docstrings(value)
        yield from (
            f"{name}.{item.name}"
            for item in dataclasses.fields(value)
            if item.name not in known and item.init and not item.name.startswith("_")
        )
    elif "__init__" in vars(value) and not getattr(value, "_is_protocol", False):
        known = described(text) | described(inspect.getdoc(value.__init__) or "")
        yield from (f"{name}({missing})" for missing in parameters(value) if missing not in known)
    for key, member in vars(value).items():
        function = getattr(member, "__func__", member)
        if not key.startswith("_") and inspect.isfunction(function) and not key.startswith("test_"):
            yield from undocumented(function, f"{name}.{key}")


@pytest.mark.parametrize(("module", "name"), CASES)
def test_every_parameter_is_described(module: str, name: str) -> None:
    """Each parameter of a public function, method or class has a description, and so has each field of a public dataclass."""
    assert list(undocumented(getattr(importlib.import_module(module), name), name)) == []
