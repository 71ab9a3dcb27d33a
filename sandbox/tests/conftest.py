"""Lets the tests here import their helpers, which pytest's importlib mode alone does not."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sandbox_support import BACKENDS, opened


@pytest.fixture(scope="session", params=BACKENDS)
def sandbox(request):
    """Two boxes for quick programs."""
    with opened(request.param, slots=2) as box:
        yield box
