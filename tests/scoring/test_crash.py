"""A run that is killed, and run again until it ends, has written what an undisturbed run writes."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

TOY = Path(__file__).with_name("toy.py")


def _run(order: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOY), json.dumps(order)], capture_output=True, text=True, check=False)


def _leftovers(out: Path) -> set[str]:
    return {path.name.removeprefix(out.name) for path in out.parent.glob(f"{out.name}*")}


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "order"), [(".jsonl", "plain"), (".parquet", "plain"), (".parquet", "interleaved")])
def test_killed_at_every_step(ending: str, order: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Killed before and after every fsync, truncation, renaming and removal, one after the other, it ends with every row once."""
    rows = files.make_rows(1000)
    if order == "interleaved":
        rows = [rows[index * 4 + turn] for turn in range(4) for index in range(250)]
    source = files.write_rows(tmp_path / "rows.jsonl", rows)
    with source.open("a") as file:
        file.write("{broken\n")
    reward = toy.PLAIN if order == "plain" else toy.GROUPED
    whole = tmp_path / f"whole{ending}"
    moments = int(_run({"inputs": [str(source)], "out": str(whole), "reward": reward}).stdout)
    out = tmp_path / f"out{ending}"
    kills = 0
    # Each run dies one step later than the last, so each step of the work is cut at, also while an earlier cut is repaired.
    for kill_at in range(1, 4 * moments):
        done = _run({"inputs": [str(source)], "out": str(out), "reward": reward, "kill_at": kill_at})
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
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
def test_each_step_alone(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Killed at one step of the end (footer, manifest, renaming, removal), the next run finishes."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(200))
    whole = tmp_path / "whole.parquet"
    order = {"inputs": [str(source)], "reward": toy.PLAIN}
    moments = int(_run({**order, "out": str(whole)}).stdout)
    for kill_at in range(1, moments + 1):
        out = tmp_path / f"out{kill_at}.parquet"
        assert _run({**order, "out": str(out), "kill_at": kill_at}).returncode == -9
        toy.score([source], out)
        assert files.read_rows(out) == files.read_rows(whole)
        assert _leftovers(out) == {"", ".manifest.json"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_killed_at_random_moments(ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """SIGKILL from outside at random moments."""
    rows = files.make_rows(12_000)
    source = files.write_rows(tmp_path / "rows.jsonl", rows)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    toy.score([source], whole)
    order = json.dumps({"inputs": [str(source)], "out": str(out), "reward": toy.PLAIN})
    chance = random.Random(1)  # noqa: S311 - for choosing moments
    for _ in range(8):
        process = subprocess.Popen([sys.executable, str(TOY), order], stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.2, 0.9))  # the moment is arbitrary, and what is asserted holds for any
        process.kill()
        process.wait()
    assert _run(json.loads(order)).returncode == 0
    assert files.read_rows(out) == files.read_rows(whole)
