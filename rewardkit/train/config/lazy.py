"""Objects named as ``module:name``, imported when they are needed: a configuration can name what needs torch without loading it."""

from __future__ import annotations

import importlib
from typing import Any


def load_object(place: str) -> Any:
    """The object at ``module:name``. Raises ImportError or AttributeError where there is none."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
