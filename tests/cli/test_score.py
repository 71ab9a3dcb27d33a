"""``rewardkit score`` as people call it."""

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from rewardkit.cli import run
from rewardkit.scoring import run as scoring_run
from rewardkit.scoring.engines import local

REWARD = """
version: 1
components:
  form: {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}
  size: {use: length.overlong, with: {max_tokens: 100, buffer: 50}, weight: 0.5}
"""
DATA = Path(os.environ.get("REWARDKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
SYSTEMS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REWARDKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    Path("reward.yaml").write_text(REWARD)


def _write(count: int, name: str = "rows.jsonl") -> None:
    rows = [
        {
            "prompt": f"p{index // 4}",
            "completion": "<think>a</think><answer>b</answer>" if index % 3 else f"no tags {index}",
            "num_tokens": index % 200,
            "id": index,
        }
        for index in range(count)
    ]
    Path(name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_bytes().splitlines()]


def test_table_and_files(capfd: pytest.CaptureFixture[str]) -> None:
    """The summary is a table on standard error that fits 80 columns; standard output stays empty."""
    _write(200)
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.parquet"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert max(map(len, err.splitlines())) <= 80
    for word in ("reward", "form", "size", "200 rows in out.parquet"):
        assert word in err
    assert pq.read_metadata("out.parquet").num_rows == 200


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    """--json puts the summary on standard output."""
    _write(300)
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "-o", "out.jsonl", "--json"]) == 0
    summary = json.loads(capfd.readouterr().out)
    rewards = [row["reward"] for row in _read("out.jsonl")]
    assert summary["rows"] == summary["rows_written"] == 300
    assert summary["reward"]["mean"] == pytest.approx(sum(rewards) / 300)
    assert summary["reward"]["max"] == max(rewards)
    assert summary["components"]["form"]["mean"] == pytest.approx(2 / 3)
    sizes = [row["components"]["size"]["value"] for row in _read("out.jsonl")]
    assert summary["components"]["size"]["median"] == statistics.median(sizes)


def test_worker_processes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Spread over processes, the rows are the same, in the same order; so is the summary."""
    _write(5000)
    arguments = ["score", "rows.jsonl", "--reward", "reward.yaml", "--json"]
    assert run([*arguments, "--out", "here.jsonl", "--workers", "1"]) == 0
    here = json.loads(capfd.readouterr().out)
    monkeypatch.setattr(scoring_run, "MIN_BYTES_FOR_PROCESSES", 0)
    assert run([*arguments, "--out", "spread.jsonl", "--workers", "2"]) == 0
    spread = json.loads(capfd.readouterr().out)
    assert Path("spread.jsonl").read_bytes() == Path("here.jsonl").read_bytes()
    for summary in (here, spread):
        summary.pop("out")
        for part in summary["components"].values():
            assert part.pop("seconds") >= 0
            part["mean"], part["std"] = round(part["mean"], 9), round(part["std"], 9)
    assert spread["components"] == here["components"]


HALFWAY = """
import os, signal, socket
from pathlib import Path
from rewardkit import reward

def _half(self, data):
    self.send(bytes(data)[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

@reward("halfway")
def halfway(rollout) -> float:
    mark = Path("died")
    if rollout.fields["id"] == 1000 and os.environ["MAIN"] != str(os.getpid()) and not mark.exists():
        mark.touch()
        socket.socket.sendall = _half
    return 1.0
"""


@pytest.fixture
def in_workers(
    install_plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, str, str], None]:
    """Has 2,000 rows scored by a plugin of one reward in worker processes, 600 rows at a time; MAIN names the process that is none."""

    def prepare(source: str, name: str, use: str) -> None:
        install_plugin(source, name)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
        monkeypatch.setenv("MAIN", str(os.getpid()))
        monkeypatch.setattr(scoring_run, "MIN_BYTES_FOR_PROCESSES", 0)
        monkeypatch.setattr(scoring_run, "_CHUNK_ROWS", 600)
        Path("reward.yaml").write_text(f"version: 1\ncomponents:\n  a: {use}\n")
        _write(2000)

    return prepare


def test_worker_killed_in_the_middle_of_an_answer(in_workers: Callable[[str, str, str], None]) -> None:
    """Half an answer in the pipe holds up nothing: the chunk goes to another worker."""
    in_workers(HALFWAY, "halfway", "{use: halfway}")
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl", "--workers", "2"]) == 0
    assert Path("died").exists()
    assert [row["id"] for row in _read("out.jsonl")] == list(range(2000))


def test_small_input_is_shared_when_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A slow reward continues in worker processes and gives the same rows in the same order."""
    _write(5000)
    arguments = ["score", "rows.jsonl", "--reward", "reward.yaml", "--json"]
    assert run([*arguments, "--out", "here.jsonl", "--workers", "1"]) == 0
    shared: list[int] = []
    spread = local.in_processes

    def noted(*given: Any) -> Any:
        shared.append(given[2])
        return spread(*given)

    monkeypatch.setattr(local, "in_processes", noted)
    monkeypatch.setattr(local, "MIN_SECONDS_FOR_PROCESSES", 0)
    monkeypatch.setattr(local, "_JUDGED_AFTER_S", 0)
    assert run([*arguments, "--out", "shared.jsonl", "--workers", "2"]) == 0
    capfd.readouterr()
    assert shared == [2]
    assert Path("shared.jsonl").read_bytes() == Path("here.jsonl").read_bytes()


DEADLY = """
import os, signal
from pathlib import Path
from rewardkit import reward

@reward("deadly")
def deadly(rollout, *, times: int) -> float:
    deaths = Path("deaths")
    if rollout.fields["id"] == 1000 and os.environ["MAIN"] != str(os.getpid()):
        count = len(deaths.read_text()) if deaths.exists() else 0
        if count < times:
            deaths.write_text("x" * (count + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
"""


@pytest.mark.parametrize("times", [1, 100])
def test_killed_worker_process(
    times: int,
    in_workers: Callable[[str, str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A worker that is killed loses nothing; rows that kill every worker are named, and what was done before is kept."""
    in_workers(DEADLY, "deadly", f"{{use: deadly, with: {{times: {times}}}}}")
    monkeypatch.setattr(local, "MAX_TRIES", 3)
    code = run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl", "--workers", "2"])
    err = capfd.readouterr().err
    if times == 1:
        assert code == 0, err
        assert [row["id"] for row in _read("out.jsonl")] == list(range(2000))
    else:
        assert code == 1
        assert "3 worker processes died on the rows from rows.jsonl:601 on" in err
        assert len(_read("out.jsonl.part")) == 600


def test_too_many_unscored(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, after the table."""
    Path("rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n' * 10)
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl"]) == 3
    err = capfd.readouterr().err
    assert "10 of 10 rows (100%) could not be scored" in err
    assert "10 rows in out.jsonl" in err


SICK = """
from pathlib import Path
from rewardkit import reward

@reward("sick", deterministic=True, executor="process")
def sick(rollout) -> float:
    if rollout.fields["id"] == 3 and not Path("well").exists():
        raise ConnectionError("away")
    with Path("calls").open("a") as file:
        file.write("x")
    return 1.0
"""


def test_unscored_rows_are_tried_again(
    install_plugin: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """After a failure, the command that the summary suggests scores only the unscored row again."""
    install_plugin(SICK, "sick")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    Path("reward.yaml").write_text("version: 1\ncomponents:\n  a: {use: sick}\nunscored: {abort_above: 0.5}\n")
    _write(12)
    command = ["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl"]
    assert run(command) == 0
    assert "the same command with --retry unscored" in " ".join(capfd.readouterr().err.split())
    assert [row["id"] for row in _read("out.jsonl") if row["reward"] is None] == [3]
    Path("well").touch()
    assert run([*command, "--retry", "unscored:infra,timeout,plugin"]) == 0
    assert "--retry" not in capfd.readouterr().err
    assert [row["reward"] for row in _read("out.jsonl")] == [1.0] * 12
    assert len(Path("calls").read_text()) == 12


def test_wrong_use(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a message, without a traceback."""
    Path("rows.jsonl").write_text('{"question": "p", "response": "c"}\n')
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl"]) == 2
    err = capfd.readouterr().err
    assert "--map prompt=question --map completion=response" in err
    assert "Traceback" not in err


def test_output_of_an_earlier_run_is_no_input() -> None:
    """A glob over the folder leaves out what this command writes there."""
    _write(20)
    for _ in range(2):
        assert run(["score", "*.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl"]) == 0
    assert len(_read("out.jsonl")) == 20


@pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}")
def test_four_nested_columns() -> None:
    """GSM8K model solutions: four objects per row become four completions, with their labels."""
    reward = "version: 1\ncomponents:\n  size: {use: length.overlong, with: {max_chars: 4000, buffer: 100}}\n"
    Path("reward.yaml").write_text(reward)
    maps = [
        f"{new}={','.join(f'{system}.{key}' for system in SYSTEMS)}"
        for new, key in (("completion", "solution"), ("ok", "is_correct"))
    ]
    source = DATA / "rollouts" / "gsm8k_model_solutions.jsonl"
    arguments = ["score", str(source), "--reward", "reward.yaml", "--out", "out.parquet", "--map", "prompt=question"]
    assert run([*arguments, *(part for text in maps for part in ("--map", text)), "--explode", "ok"]) == 0
    rows = pq.read_table("out.parquet").to_pylist()
    assert len(rows) == 4 * 1319
    for row in rows:
        system = row[SYSTEMS[row["completion_index"]]]
        assert (row["completion"], row["ok"]) == (system["solution"], system["is_correct"])


@pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}")
def test_list_columns() -> None:
    """MATH solutions: eight completions per row, with the lists that go along."""
    reward = "version: 1\ncomponents:\n  size: {use: length.overlong, with: {max_chars: 4000, buffer: 100}}\n"
    Path("reward.yaml").write_text(reward)
    source = DATA / "rollouts" / "math_cot_100.jsonl"
    arguments = ["score", str(source), "--reward", "reward.yaml", "--out", "out.jsonl", "--map", "prompt=question"]
    assert run([*arguments, "--map", "completion=code", "--explode", "pred,score,pred_score"]) == 0
    rows = _read("out.jsonl")
    original = _read(str(source))
    assert len(rows) == 800
    for index, row in enumerate(rows):
        before = original[index // 8]
        assert row["completion"] == before["code"][index % 8]
        assert row["score"] == before["score"][index % 8]
        assert row["history"] == before["history"]


def test_standard_output_takes_the_rows(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """--out - writes JSON Lines to standard output and the summary to standard error."""
    _write(5)
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "-"]) == 0
    said = capfdbinary.readouterr()
    assert len([json.loads(line) for line in said.out.splitlines()]) == 5
    assert b"5 rows in standard output" in said.err


def test_nothing_that_can_be_read_is_3(capfd: pytest.CaptureFixture[str]) -> None:
    """If no row can be read, the exit code is 3 and the message tells the first reason."""
    Path("rows.jsonl").write_text("no JSON\n")
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "out.jsonl"]) == 3
    assert "rows.jsonl:1: not JSON" in capfd.readouterr().err


def test_nested_column_is_a_field() -> None:
    """A path into a nested column names a field, in scoring and in check."""
    Path("rows.jsonl").write_text(
        '{"prompt": "p", "completion": "\\\\boxed{3}", "reward_model": {"ground_truth": "3"}}\n'
    )
    Path("nested.yaml").write_text(
        "version: 1\ncomponents:\n  a: {use: math, with: {reference: reward_model.ground_truth}}\n"
    )
    assert run(["check", "nested.yaml", "--data", "rows.jsonl"]) == 0
    assert run(["score", "rows.jsonl", "--reward", "nested.yaml", "--out", "out.jsonl"]) == 0
    assert [row["reward"] for row in _read("out.jsonl")] == [1.0]


RAISES = """
from rewardkit import reward

@reward("raises")
def raises(rollout) -> float:
    return {}["missing"] if "3" in rollout.completion_text else 1.0

@reward("raises_too")
def raises_too(rollout) -> float:
    return 1 / (len(rollout.completion_text) - len(rollout.completion_text))
"""


@pytest.mark.parametrize(("flags", "shown"), [([], 0), (["-v"], 1)])
def test_the_first_traceback_of_each_component_is_shown_on_request(
    flags: list[str], shown: int, install_plugin: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    """With -v, the first traceback of each failing reward appears once, with its row and the line of the plugin's code."""
    module = install_plugin(RAISES)
    Path("raises.yaml").write_text("version: 1\ncomponents: {a: {use: raises}, b: {use: raises_too}}\n")
    _write(8)

    run(["score", "rows.jsonl", "--reward", "raises.yaml", "--out", "out.jsonl", "--no-cache", *flags])

    err = capfd.readouterr().err
    assert err.count("Traceback (most recent call last)") == 2 * shown
    assert err.count("component 'a' first failed at rows.jsonl:") == shown
    assert (f"{module}.py" in err) is bool(shown)


def test_repeat_tells_unstable_rows_and_fails_above(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--repeat scores stable rewards alike and ends well; a row that differs is in the JSON, and --fail-above makes it an error."""
    _write(6)
    monkeypatch.syspath_prepend(Path.cwd())
    Path("coin.py").write_text(
        "import os\n\ndef coin(rollout):\n    with open(__file__ + '.calls', 'a') as file:\n        file.write('.')\n"
        "    return 1.0 if os.path.getsize(__file__ + '.calls') <= 6 else 0.0\n"
    )
    common = ["score", "rows.jsonl", "--repeat", "3", "--json", "--fail-above", "0"]
    assert run([*common, "--reward", "reward.yaml", "--out", "same.jsonl"]) == 0
    assert json.loads(capfd.readouterr().out)["repeat"]["unstable_rows"] == 0
    Path("flaky.yaml").write_text("version: 1\ncomponents:\n  coin: {use: 'coin:coin'}\n")
    assert run([*common, "--reward", "flaky.yaml", "--out", "flaky.jsonl"]) == 1
    captured = capfd.readouterr()
    assert json.loads(captured.out)["repeat"]["components"]["coin"]["values_differ"] == 6
    assert "6 of 6 rows are unstable (100.00%)" in captured.err
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "x.jsonl", "--fail-above", "0"]) == 2
    assert run([*common, "--reward", "reward.yaml", "--out", "x.jsonl", "--retry", "unscored"]) == 2
