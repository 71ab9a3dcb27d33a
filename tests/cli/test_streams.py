"""What rewards print never gets into the output of a command, and standard error may be closed or full."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
import contextlib, ctypes, os, subprocess, sys
from rewardkit import reward

print("while it is imported")

@reward("prints")
class Prints:
    def __init__(self):
        print("while it is built")

    def __call__(self, rollouts):
        print("while it scores")
        with contextlib.suppress(OSError):
            os.write(1, b"to the descriptor\\n")
        ctypes.CDLL(None).puts(b"from C")
        subprocess.run(["echo", "from a child"])
        sys.__stdout__.write("to the stream that there was")
        print("to standard error", file=sys.stderr)
        return [1.0] * len(rollouts)

    def close(self):
        print("while it is closed")
        sys.stdout = sys.stderr = None
"""
ROW = {"prompt": "p", "completion": "c"}


@pytest.fixture
def score(tmp_path: Path, install_plugin):
    """Run ``rewardkit score`` in a shell, with redirections: (rest of the line) → the process."""
    install_plugin(PLUGIN)
    (tmp_path / "reward.yaml").write_text("version: 1\ncomponents: {a: {use: prints}}\n")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")

    def run(rest: str) -> subprocess.CompletedProcess[str]:
        line = f"exec {sys.executable} -m rewardkit score rows.jsonl --reward reward.yaml --no-cache {rest}"
        return subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path / "site"), "REWARDKIT_DISABLE_PLUGINS": "rewardkit-*"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_json_is_all_there_is_on_stdout(score) -> None:
    """Whatever a reward prints, and however, standard output is the summary; what it printed is on standard error."""
    done = score("--out out.jsonl --json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows_written"] == 1
    for text in ("imported", "built", "scores", "to the descriptor", "from C", "from a child", "stream that", "closed"):
        assert text in done.stderr


def test_rows_are_all_there_is_on_stdout(score) -> None:
    """The same for ``--out -``."""
    done = score("--out -")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["reward"] == 1.0


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>/dev/full", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed_or_full(score, tmp_path: Path, streams: str) -> None:
    """A run whose messages can't be printed scores all the same, and its files are not written into."""
    assert score(f"--out out.jsonl {streams}").returncode == 0
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(line)["reward"] == 1.0
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == ROW


def test_a_summary_that_cannot_be_written_is_an_error(score, tmp_path: Path) -> None:
    """Where standard output is full, the rows are kept and the exit code says that the summary is missing."""
    done = score("--out out.jsonl --json >/dev/full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert (tmp_path / "out.jsonl").exists()
