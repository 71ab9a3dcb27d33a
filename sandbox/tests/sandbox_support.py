"""Sandboxes for tests, for each backend that works on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rewardkit_sandbox import Sandbox, Unavailable, open_sandbox

BACKENDS = ("docker", "bubblewrap")
REPOSITORY = Path(__file__).parents[2]


def data(name):
    """A file of the measuring data, or a skip."""
    folder = Path(os.environ.get("REWARDKIT_DATA", REPOSITORY / "../shared/data"))
    if not (folder / name).exists():
        pytest.skip(f"no {name} in {folder} (set REWARDKIT_DATA)")
    return folder / name


def opened(backend, **options) -> Sandbox:
    """A sandbox, or a skip that says why there is none."""
    try:
        return open_sandbox(backend, **options)
    except Unavailable as error:
        pytest.skip(f"{backend}: {error}")
