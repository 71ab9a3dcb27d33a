"""Fixtures for tests that need a sandbox."""

import pytest
from rewardkit_sandbox import Unavailable, open_sandbox


@pytest.fixture(scope="session")
def _sandbox_opens():
    try:
        open_sandbox(slots=1).close()
    except Unavailable as error:
        return str(error)
    return ""


@pytest.fixture
def _needs_sandbox(_sandbox_opens):
    if _sandbox_opens:
        pytest.skip(_sandbox_opens)


@pytest.fixture(scope="module")
def _needs_sandbox_module(_sandbox_opens):
    if _sandbox_opens:
        pytest.skip(_sandbox_opens)
