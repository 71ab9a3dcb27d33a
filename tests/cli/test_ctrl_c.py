"""Ctrl-C at any moment of a command ends it with 130, unless everything is done."""

import json
import signal
import subprocess
import sys
import time

import pytest

from rewardkit.cli import run

pytest.importorskip("rewardkit_length", reason="the length plugin is not installed")

MOMENTS = 4


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_score_is_interrupted_at_any_moment(tmp_path, moment, seconds_of_a_run):
    """A run of `rewardkit score` exits with 130, or with 0 and all rows; the same command then finishes it."""
    process = subprocess.Popen(score(tmp_path), stderr=subprocess.PIPE, text=True)
    try:
        process.wait(seconds_of_a_run * moment / MOMENTS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    # Python dies of the signal itself before it has a handler for it, and fails if the signal comes while it loads its module site.
    starts = "init_import_site" in errors
    assert starts or process.returncode in {130, -signal.SIGINT} or (tmp_path / "out.jsonl").exists(), errors
    assert run(score(tmp_path)[3:]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == ROWS


ROWS = 2_000


def score(folder):
    """Write the input, and return the command that scores it."""
    if not (folder / "rows.jsonl").exists():
        rows = [{"prompt": "p", "completion": f"{number} words", "num_tokens": 2} for number in range(ROWS)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        reward = "version: 1\ncomponents: {short: {use: length.penalty, with: {per_token: 0.01}}}\n"
        (folder / "reward.yaml").write_text(reward)
    files = [folder / "rows.jsonl", "--reward", folder / "reward.yaml", "--out", folder / "out.jsonl", "--no-cache"]
    return [sys.executable, "-m", "rewardkit", "score", *map(str, files)]


@pytest.fixture(scope="module")
def seconds_of_a_run(tmp_path_factory):
    """Return how long an uninterrupted run takes."""
    began = time.monotonic()
    subprocess.run(score(tmp_path_factory.mktemp("whole")), check=True, capture_output=True)
    return time.monotonic() - began
