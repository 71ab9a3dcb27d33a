"""Imports users' functions and modules."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def load(target: str) -> Callable[..., Any]:
    """Import a function.

    Raises:
        ValueError: It does not exist, or can't be called.
    """
    found = load_object(target)
    if not callable(found):
        where, _, name = target.rpartition(":")
        raise ValueError(f"{where} has no function {name!r}")  # noqa: TRY004 - like what is not there
    function: Callable[..., Any] = found
    return function


def load_object(target: str) -> Any:
    """Import what a module holds; None if it does not hold it.

    Args:
        target: ``/absolute/file.py:name`` or ``package.module:name``.

    Raises:
        ValueError: The file is not Python's.
    """
    where, _, name = target.rpartition(":")
    found: Any = load_module(where)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or by the path of its file, which ends in ``.py``.

    Raises:
        ValueError: The file is not Python's.
    """
    if not where.endswith(".py"):
        return importlib.import_module(where)
    key = f"_rewardkit_function_{hashlib.blake2b(where.encode(), digest_size=8).hexdigest()}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, where)
        if spec is None or spec.loader is None:
            raise ValueError(f"{where} can't be imported")
        sys.modules[key] = importlib.util.module_from_spec(spec)
        sys.path.append(str(Path(where).parent))  # its own imports of neighbouring files
        try:
            spec.loader.exec_module(sys.modules[key])
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]
