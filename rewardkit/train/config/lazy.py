"""Lazy imports by name (``module:name``), so that a configuration can refer to code that needs torch without importing it."""

from __future__ import annotations

import importlib
from typing import Any


def load_object(place: str) -> Any:
    """Import and return the object at ``module:name``. Raises ImportError or AttributeError if it does not exist."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
