"""Programs in `rewardkit score`, as a user runs it: HumanEval, Ctrl-C, a missing sandbox, and the examples."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rewardkit_code", reason="the code plugin is not installed")
pytest.importorskip("rewardkit_format", reason="the format plugin is not installed")
pytest.importorskip("rewardkit_length", reason="the length plugin is not installed")

from rewardkit_sandbox import Unavailable, open_sandbox

from rewardkit.cli import run

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples/code"
PROBLEMS = 7
HANGING = 2
"""The number of programs that hang; each takes its whole CPU limit."""


@pytest.fixture(scope="module", autouse=True)
def _works():
    try:
        open_sandbox(slots=1).close()
    except Unavailable as error:
        pytest.skip(str(error))


def command(*arguments):
    """Return the command line of a `rewardkit` command."""
    return [sys.executable, "-m", "rewardkit", *map(str, arguments)]


def score(data, reward, out, *more, env=None):
    """Run `rewardkit score` and return the finished process."""
    line = command("score", data, "--reward", reward, "--out", out, "--no-cache", *more)
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100", **(env or {})})


@pytest.fixture
def score_here(capsys, monkeypatch):
    """Run `rewardkit score` in this process: (data, reward, out, env=None) → exit code and standard error."""

    def score(data, reward, out, env=None):
        for name, text in (env or {}).items():
            monkeypatch.setenv(name, text)
        capsys.readouterr()
        code = run(["score", *map(str, (data, "--reward", reward, "--out", out, "--no-cache"))])
        return code, capsys.readouterr().err

    return score


def read(path):
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows):
    """Write rows to a file and return its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def humaneval(tmp_path_factory):
    """The process and the rows of `rewardkit score` on HumanEval's first problems, each with a completion of every kind."""
    path = Path(os.environ.get("REWARDKIT_DATA", ROOT / "../shared/data")) / "code/HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path} (set REWARDKIT_DATA)")
    spec = importlib.util.spec_from_file_location("humaneval_rows", ROOT / "benchmarks/humaneval_rows.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    problems = made.read_problems(path)[:PROBLEMS]
    with open_sandbox(limits=made.LIMITS) as sandbox:
        found = made.find_mutants(sandbox, problems)
    rows = list(made.rows(problems, found))
    hanging = [row for row in rows if row["kind"] == "hanging"][HANGING:]
    folder = tmp_path_factory.mktemp("humaneval")
    data = write(folder / "rows.jsonl", [row for row in rows if row not in hanging])
    done = score(data, EXAMPLES / "humaneval.yaml", folder / "scored.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    return done, read(folder / "scored.jsonl")


@pytest.mark.parametrize(
    ("kind", "correct", "says"),
    [
        ("canonical", 1.0, "the tests passed"),
        ("body", 1.0, "the tests passed"),
        ("mutated", 0.0, "the tests failed: "),
        ("hanging", 0.0, "the tests failed: "),
        ("malformed", 0.0, "the tests failed: SyntaxError: unmatched ')' (line "),
        ("forging", 0.0, "the tests failed: "),
        ("truncated", None, "gate shut"),
        ("unfenced", None, "gate shut"),
    ],
)
def test_humaneval(humaneval, kind, correct, says):
    """Correct solutions pass, whole or as a body; wrong, hanging, malformed and forging ones fail; the gate excludes the others."""
    rows = [row for row in humaneval[1] if row["kind"] == kind]
    assert len(rows) == (HANGING if kind == "hanging" else PROBLEMS)
    for row in rows:
        part = row["components"]["correct"]
        assert part["value"] == correct, row
        assert part["reason"].startswith(says), row
        if correct:
            assert row["reward"] == pytest.approx(1.1, abs=0.1001)
        else:
            assert row["reward"] == (0.0 if correct is None else pytest.approx(0.1))


def test_the_summary_of_humaneval(humaneval):
    """The summary counts the programs that ran and those that the gate excluded, and its table fits the terminal."""
    done, rows = humaneval
    summary = json.loads(done.stdout)
    parts = summary["components"]
    assert summary["rows"] == len(rows) == 7 * PROBLEMS + HANGING
    assert parts["correct"]["n"] == 5 * PROBLEMS + HANGING
    assert parts["correct"]["skipped"] == 2 * PROBLEMS
    assert parts["correct"]["mean"] == pytest.approx(2 * PROBLEMS / (5 * PROBLEMS + HANGING))
    assert parts["brevity"]["n"] == 2 * PROBLEMS
    assert summary["reward"]["unscored"] == 0
    assert f"correct skipped: {2 * PROBLEMS}" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 100


YAML = "version: 1\ncomponents:\n  correct: {use: code.tests, with: {score: all%s}}\n"


def programs(count):
    """Yield rollouts of different small programs; every third is wrong."""
    for number in range(count):
        tests = [{"stdin": "1\n", "expected": f"{number + 1 + (number % 3 == 0)}\n"}]
        completion = f"```python\nprint(int(input()) + {number})\n```"
        yield {"prompt": "", "completion": completion, "id": number, "tests": tests}


INTERRUPTER = """
import os
import signal
import threading
import time

from rewardkit import hookimpl
from rewardkit.scoring import output

output.SEGMENT_SECONDS = 0  # rows are written as soon as they are scored, so that the wait below ends
LOCK = threading.Lock()
SENT = []
PART = os.environ.get("INTERRUPT_ONCE_WRITTEN")


@hookimpl
def rollouts_scored(rollouts):
    if not PART or rollouts[0].rollout.fields["id"] == 0:
        return
    while not (os.path.exists(PART) and os.path.getsize(PART)):  # the first chunk is written next
        time.sleep(0.01)
    with LOCK:
        if not SENT:
            SENT.append(os.kill(os.getpid(), signal.SIGINT))
"""
"""A plugin that presses Ctrl-C once the first rows are written and before the others are, so that the test depends on no timing."""


def test_interrupted_and_resumed(tmp_path, install_plugin):
    """Ctrl-C in the middle keeps the finished rows, the same command resumes, and each row is written once."""
    count = 640
    data = write(tmp_path / "rows.jsonl", programs(count))
    (tmp_path / "reward.yaml").write_text(YAML % "")
    install_plugin(INTERRUPTER)
    out = tmp_path / "scored.jsonl"
    part = Path(f"{out}.part")
    env = {"PYTHONPATH": str(tmp_path / "site")}

    done = score(data, tmp_path / "reward.yaml", out, env={**env, "INTERRUPT_ONCE_WRITTEN": str(part)})
    assert done.returncode == 130, done.stderr
    assert "The same command resumes the run" in done.stderr
    assert not out.exists()
    assert 0 < len(part.read_text().splitlines()) < count

    done = score(data, tmp_path / "reward.yaml", out, env=env)
    assert done.returncode == 0, done.stderr
    assert [(row["id"], row["reward"]) for row in read(out)] == [(n, float(n % 3 != 0)) for n in range(count)]


@pytest.mark.parametrize(
    ("params", "env", "says"),
    [
        (", backend: docker", {"DOCKER_HOST": "unix:///surely/not/there.sock"}, "no Docker engine answers"),
        (", backend: bubblewrap, image: /surely/not/there", {}, "no root file system in /surely/not/there"),
    ],
)
def test_without_a_sandbox(tmp_path, score_here, params, env, says):
    """Without a sandbox no row gets a 0: all are unscored, and the run ends with exit code 3 and the reason."""
    data = write(tmp_path / "rows.jsonl", programs(20))
    (tmp_path / "reward.yaml").write_text(YAML % params)
    code, told = score_here(data, tmp_path / "reward.yaml", tmp_path / "scored.jsonl", env)
    assert code == 3
    assert "20 of 20 rows (100%) could not be scored" in told
    assert says in told
    rows = read(tmp_path / "scored.jsonl")
    assert {(row["reward"], row["reward_status"], row["components"]["correct"]["status"]) for row in rows} == {
        (None, "unscored", "unscored")
    }


def test_what_a_new_user_gets_wrong(tmp_path, score_here):
    """A missing column and a misspelled key are reported before anything runs; each row with unusable tests has its own reason."""
    data = write(tmp_path / "rows.jsonl", [{"prompt": "", "completion": "x"}])
    (tmp_path / "reward.yaml").write_text(YAML % "")
    code, told = score_here(data, tmp_path / "reward.yaml", tmp_path / "scored.jsonl")
    assert code == 2
    assert "tests" in told
    (tmp_path / "typo.yaml").write_text(YAML % ", langauge: python")
    code, told = score_here(data, tmp_path / "typo.yaml", tmp_path / "scored.jsonl")
    assert code == 2
    assert "typo.yaml:3:" in told
    assert "langauge" in told

    right = next(programs(2))
    odd = [[], "", [{"stdin": "1"}], [{"stdin": "1", "expected": "1"}, 7], "assert f("]
    huge = {**right, "completion": "```python\n" + "x = 1\n" * 800_000 + "print(input())\n```"}
    rows = [{**right, "tests": tests if isinstance(tests, str) else json.dumps(tests)} for tests in odd]
    rows += [{**huge, "tests": json.dumps([{"stdin": "5", "expected": "5"}])}]
    (tmp_path / "lax.yaml").write_text(YAML % "" + "unscored: {abort_above: 1.0}\n")
    code, told = score_here(write(tmp_path / "odd.jsonl", rows), tmp_path / "lax.yaml", tmp_path / "odd-scored.jsonl")
    assert code == 0, told
    parts = [row["components"]["correct"] for row in read(tmp_path / "odd-scored.jsonl")]
    assert [part["status"] for part in parts[:-1]] == ["unscored"] * len(odd)
    assert "there are no tests" in parts[0]["reason"]
    assert "test 1 needs" in parts[2]["reason"]
    assert "test 2 must be" in parts[3]["reason"]
    assert parts[-1]["status"] == "scored"


def test_the_example_rollouts_are_what_their_script_writes():
    """rollouts.jsonl is the output of make_rollouts.py, so that one is not edited without the other."""
    made = runpy.run_path(str(EXAMPLES / "make_rollouts.py"))
    assert read(EXAMPLES / "rollouts.jsonl") == list(made["rows"]())


def test_the_example(tmp_path):
    """For each kind of test the correct program gets 1 and the wrong ones less, and no row is unscored."""
    done = score(EXAMPLES / "rollouts.jsonl", EXAMPLES / "reward.yaml", tmp_path / "scored.jsonl")
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "scored.jsonl")
    assert len({row["group"] for row in rows}) == 6
    for row in rows:
        value = row["components"]["correct"]["value"]
        assert (value == 1.0) is row["what"].startswith("right"), row
    assert run(["check", str(EXAMPLES / "reward.yaml"), "--data", str(EXAMPLES / "rollouts.jsonl")]) == 0
