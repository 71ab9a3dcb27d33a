"""Scores of programs are cached by content, and found again without running anything."""

import pytest
from rewardkit_code import sandboxes
from rewardkit_sandbox import PooledSandbox as Sandbox

from rewardkit import Rollout
from rewardkit.composite import ScoreCache, load_reward

pytestmark = pytest.mark.usefixtures("_needs_sandbox")
ADD = "def add(a, b):\n    return a + b"
CALLS = [{"call": "add", "args": [1, 2], "expected": 3}]


def yaml(weight=1, **params):
    """Return a reward file with `code.tests` and `code.runs`."""
    given = "".join(f", {name}: {value}" for name, value in params.items())
    return (
        "version: 1\ncomponents:\n"
        f"  correct: {{use: code.tests, with: {{slots: 2{given}}}, weight: {weight}}}\n"
        "  runs: {use: code.runs, with: {slots: 2}, weight: 0.1}\n"
    )


def row(code=ADD, tests=CALLS, prompt="Add.", **fields):
    """Return a rollout with this program."""
    return Rollout(prompt, f"So:\n```python\n{code}\n```\n{fields.pop('said', '')}", {"tests": tests, **fields})


@pytest.fixture
def ran(monkeypatch):
    """The list of programs that were run."""
    programs = []
    run, run_tests = Sandbox.run, Sandbox.run_tests
    monkeypatch.setattr(
        Sandbox, "run", lambda self, program, *a, **k: programs.append(program) or run(self, program, *a, **k)
    )
    monkeypatch.setattr(
        Sandbox,
        "run_tests",
        lambda self, program, *a, **k: programs.append(program) or run_tests(self, program, *a, **k),
    )
    return programs


def score(text, rows, folder):
    """Return the rewards, with a cache in the folder."""
    cache = ScoreCache(folder)
    with load_reward(text, cache=cache) as reward:
        scored = [item.reward for item in reward.score(rows)]
    cache.close()
    return scored


def test_reweighting_runs_no_program(ran, tmp_path, monkeypatch):
    """With other weights every score is found in the cache, and no sandbox is opened."""
    rows = [row(), row("def add(a, b): return 4"), row("def add(: pass"), row(said="Done.", id=7)]
    assert score(yaml(), rows, tmp_path) == pytest.approx([1.1, 0.1, 0.0, 1.1])
    ran.clear()
    monkeypatch.setattr(sandboxes, "open_sandbox", lambda *_a, **_k: pytest.fail("a sandbox was opened"))
    assert score(yaml(weight=-2), rows, tmp_path) == pytest.approx([-1.9, 0.1, 0.0, -1.9])
    assert ran == []


def test_equal_programs_of_a_batch_run_once(ran, tmp_path):
    """The text around them in the completion and other columns make no difference."""
    rows = [row(), row(said="I checked it."), row(prompt="Please add."), row(id=3), row("def add(a, b): return 3")]
    with load_reward(yaml()) as reward:
        assert [item.reward for item in reward.score(rows)] == pytest.approx([1.1] * 5)
    assert len(ran) == 4  # two programs, each tested and run


@pytest.mark.parametrize(
    ("change", "params"),
    [
        ({"code": ADD + " "}, {}),
        ({"tests": [{"call": "add", "args": [1, 2], "expected": 3.0}]}, {}),
        ({}, {"cpu_s": 4}),
        ({}, {"score": "all"}),
    ],
)
def test_what_is_in_the_key(ran, tmp_path, change, params):
    """Another program, test, limit or way to count is scored anew."""
    score(yaml(), [row()], tmp_path)
    ran.clear()
    score(yaml(**params), [row(**change)], tmp_path)
    assert ran


def test_the_image_is_in_the_key(ran, tmp_path, monkeypatch):
    """A rebuilt image has scores of its own; for an image that can't be identified nothing is cached."""
    for identity, runs in [("a", 2), ("a", 0), ("b", 2), (None, 2), (None, 2)]:
        monkeypatch.setattr(sandboxes, "identify", lambda *_a, told=identity, **_k: told)
        ran.clear()
        score(yaml(), [row()], tmp_path)
        assert len(ran) == runs


def test_time_outs_are_not_kept(ran, tmp_path):
    """A program that ran out of time is tried again, because the machine may have been busy."""
    slow = row("import time\ndef add(a, b): time.sleep(60)")
    for _ in range(2):
        ran.clear()
        assert score(yaml(wall_s=0.5), [slow], tmp_path) == pytest.approx([0.1])
        assert len(ran) == (2 if _ == 0 else 1)
