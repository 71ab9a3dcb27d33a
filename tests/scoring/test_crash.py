"""A run that is killed, and run again until it ends, has written what an undisturbed run writes."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOY = Path(__file__).with_name("toy.py")
Run = Callable[..., tuple[int, int]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Obey an order in a process of its own; return its exit code and the number of its moments."""
    server = subprocess.Popen([sys.executable, str(TOY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    orders, answers = server.stdin, server.stdout

    def obey(**order: object) -> tuple[int, int]:
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        ended, moments = json.loads(answers.readline())
        return ended, moments

    with server:
        yield obey
        orders.close()


def _leftovers(out: Path) -> set[str]:
    return {path.name.removeprefix(out.name) for path in out.parent.glob(f"{out.name}*")}


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "order"), [(".jsonl", "plain"), (".parquet", "plain"), (".parquet", "interleaved")])
def test_killed_at_every_step(
    ending: str, order: str, tmp_path: Path, toy: ModuleType, files: ModuleType, run: Run
) -> None:
    """Killed before and after every fsync, truncation, renaming and removal, one after the other, it ends with every row once."""
    rows = files.make_rows(400)
    if order == "interleaved":
        rows = [rows[index * 4 + turn] for turn in range(4) for index in range(100)]
    source = files.write_rows(tmp_path / "rows.jsonl", rows)
    with source.open("a") as file:
        file.write("{broken\n")
    reward = toy.PLAIN if order == "plain" else toy.GROUPED
    whole = tmp_path / f"whole{ending}"
    job = {"inputs": [str(source)], "reward": reward, "segment_rows": 120, "chunk_rows": 40}
    ended, moments = run(**job, out=str(whole))
    assert ended == 0
    out = tmp_path / f"out{ending}"
    kills = 0
    # Each run dies one step later than the last, so each step of the work is cut at, also while an earlier cut is repaired.
    for kill_at in range(1, 4 * moments):
        ended, _ = run(**job, out=str(out), kill_at=kill_at)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
    assert kills >= 5
    assert files.read_rows(out) == files.read_rows(whole)
    assert [row["id"] for row in files.read_rows(out)] == [row["id"] for row in rows]
    assert (tmp_path / f"out{ending}.rejected.jsonl").read_text().count("\n") == 1
    assert _leftovers(out) == {"", ".manifest.json", ".rejected.jsonl"}
    summaries = [json.loads(Path(f"{path}.manifest.json").read_text())["summary"] for path in (out, whole)]
    for summary in summaries:
        for part in (summary["reward"], *summary["components"].values()):
            part.pop("seconds", None)
            part["mean"], part["std"] = round(part["mean"], 9), round(part["std"], 9)
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_each_step_alone(tmp_path: Path, toy: ModuleType, files: ModuleType, run: Run) -> None:
    """Killed at one step of the end (footer, manifest, renaming, removal), the next run finishes."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(200))
    whole = tmp_path / "whole.parquet"
    _, moments = run(inputs=[str(source)], reward=toy.PLAIN, out=str(whole))
    assert moments > 10
    for kill_at in range(1, moments + 1):
        out = tmp_path / f"out{kill_at}.parquet"
        ended, _ = run(inputs=[str(source)], reward=toy.PLAIN, out=str(out), kill_at=kill_at)
        assert ended == -signal.SIGKILL
        toy.score([source], out)
        assert files.read_rows(out) == files.read_rows(whole)
        assert _leftovers(out) == {"", ".manifest.json"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_killed_at_random_moments(ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType, run: Run) -> None:
    """Killed at random moments, also between two steps, and in the middle of writing."""
    rows = files.make_rows(6_000)
    source = files.write_rows(tmp_path / "rows.jsonl", rows)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    toy.score([source], whole)
    chance = random.Random(1)  # noqa: S311 - for choosing moments
    for _ in range(6):
        run(inputs=[str(source)], out=str(out), reward=toy.PLAIN, kill_after_s=chance.uniform(0.02, 0.4))
    assert run(inputs=[str(source)], out=str(out), reward=toy.PLAIN)[0] == 0
    assert files.read_rows(out) == files.read_rows(whole)
