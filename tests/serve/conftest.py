"""A reward being served, without a socket."""

import contextlib
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs rewardkit[serve]")
pytest.importorskip("prometheus_client", reason="needs rewardkit[serve]")

from starlette.testclient import TestClient

from rewardkit import Registry, Unscored, reward
from rewardkit.serve.app import Settings, application
from rewardkit.serve.run import load

LENGTH = """version: 1
components:
  size: {use: toy.size, with: {needs: answer}}
"""


@reward("toy.size", needs=["answer"])
def size(rollout, *, needs: str = "answer"):
    """Score by the length of the completion. The answers fail, infra and raise can't be scored."""
    answer = rollout.fields[needs]
    if answer == "raise":
        raise RuntimeError("broken")
    if answer in {"infra", "reference"}:
        return Unscored(answer, "the toy says so")
    return len(rollout.completion_text) / 10


@pytest.fixture
def registry():
    """A registry with the toy reward."""
    found = Registry()
    found.register(size)
    return found


@pytest.fixture
def serving(tmp_path: Path, registry):
    """Return a function that serves a reward file's text."""
    with contextlib.ExitStack() as stack:

        def start(text: str = LENGTH, plugins: Registry | None = None, **settings) -> TestClient:
            file = tmp_path / "reward.yaml"
            file.write_text(text)
            reward = stack.enter_context(load(file, plugins or registry))
            client = TestClient(application(reward, Settings(**settings)), base_url="http://localhost")
            return stack.enter_context(client)

        yield start
