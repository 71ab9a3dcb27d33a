"""The identity of a sandbox, which cached results are stored under."""

import gc

import pytest
from rewardkit_sandbox import identify


def test_a_root_that_is_made_again_is_another(tmp_path):
    """A root file system has a stable identity, and its replacement has another."""
    told = []
    for _ in range(2):
        python = tmp_path / "usr/bin/python3"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.unlink(missing_ok=True)
        python.write_text("")
        told += [identify("bubblewrap", str(tmp_path))] * 2
    assert told[0] == told[1] != told[2] == told[3]


def test_what_is_not_there_has_none(tmp_path):
    """Without an image, a root, or a known backend nothing is told."""
    assert identify("bubblewrap", str(tmp_path)) is None
    assert identify("docker", "rewardkit-sandbox:surely-not-there") is None
    assert identify("somebody's") is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK drops its socket
def test_without_an_engine_there_is_none(monkeypatch):
    """An engine that does not answer is no error here."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///surely/not/there.sock")
    assert identify("docker") is None
    gc.collect()
