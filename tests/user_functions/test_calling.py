"""Reward functions that are no plugins, in a reward file."""

import os
from pathlib import Path

import pytest

from rewardkit import NotApplicable, Registry, Rollout, load_reward
from rewardkit.cli import run
from rewardkit.config.reading import read_config
from rewardkit.errors import ConfigError
from rewardkit.user_functions import FunctionSource, is_function
from rewardkit.user_functions.styles import style_of

FUNCTIONS = """
import asyncio
import os
import pathlib
import time

from rewardkit import Score, Unscored

pathlib.Path(__file__).with_name("imported").touch()


def ours(rollout, *, bonus: float = 0.0):
    return Score(len(rollout.completion_text) + bonus, "by length")


def trl(prompts, completions, solution, **kwargs):
    assert kwargs["other"] == ["o"]
    return [None if text == "skip" else float(text == right) for text, right in zip(completions, solution)]


async def trl_async(completions, **kwargs):
    return [float(len(text)) for text in completions]


async def fragile(rollout):
    if rollout.completion == "dies":
        os._exit(3)
    return 1.0


async def meets(rollout):
    meeting.append(rollout.completion)
    while len(meeting) < 3:
        await asyncio.sleep(0)
    return float(rollout.completion)


meeting = []


def verl(data_source, solution_str, ground_truth, extra_info=None):
    extra_info["num_turns"] = 1
    return {"score": float(solution_str == ground_truth), "length": len(solution_str), "note": data_source}


def openrlhf(queries, prompts, labels):
    return {"rewards": [float(query == prompt + label) for query, prompt, label in zip(queries, prompts, labels)]}


def verifiers(completion, answer, state, **kwargs):
    assert state["answer"] == answer
    return float(completion[-1]["content"] == answer)


def trl_chat(completions, **kwargs):
    return [float(completion[-1]["role"] == "assistant" and completion[-1]["content"] == "five") for completion in completions]


def unknown(text, other):
    return 1.0


def slow(rollout):
    time.sleep(600)


def broken(rollout):
    raise RuntimeError("mine")
"""


@pytest.fixture
def scoring(tmp_path: Path):
    """Return a function that scores completions by a function of the file: (name, *completions, more="", **fields) → what of each."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)

    def score(name: str, *completions, more="", **fields):
        (tmp_path / "reward.yaml").write_text(f"version: 1\ncomponents:\n  c: {{use: './mine.py:{name}'{more}}}\n")
        with load_reward(tmp_path / "reward.yaml", workers=1) as reward:
            items = reward.score([Rollout("q", completion, fields) for completion in completions or ["five"]])
        return items if len(items) > 1 else items[0]

    return score


def test_our_own(scoring) -> None:
    """A function of a rollout may return a Score, and takes arguments from the reward file."""
    item = scoring("ours", more=", with: {args: {bonus: 0.5}}")
    assert (item.reward, item.outcomes["c"].reason) == (4.5, "by length")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("trl", {"solution": "five", "other": "o"}),
        ("verl", {"answer": "five"}),
        ("openrlhf", {"answer": "five"}),
        ("verifiers", {"answer": "five"}),
    ],
)
def test_functions_of_other_libraries(scoring, name: str, fields) -> None:
    """A function written for another library is recognised by its parameters and called as that library does."""
    assert [item.reward for item in scoring(name, "five", "six", **fields)] == [1.0, 0.0]


def test_text_as_chat(scoring) -> None:
    """Functions for chat data sets get text as messages, where the reward file says so."""
    assert scoring("trl_chat", more=", with: {chat: true}").reward == 1.0
    assert scoring("trl_chat").unscored.kind == "plugin"


def test_a_coroutine_function(scoring) -> None:
    """An asynchronous function is awaited."""
    assert scoring("trl_async").reward == 4.0


def test_none_is_not_zero(scoring) -> None:
    """None, by which TRL's functions leave a row out, is no reward of 0."""
    item = scoring("trl", "skip", solution="five", other="o")
    assert (item.reward, item.unscored.kind) == (None, "input")


def test_numbers_of_verl_are_metrics(scoring) -> None:
    """Further numbers of a dict are recorded, and a function may change its own arguments."""
    assert scoring("verl", "five", answer="five").outcomes["c"].metrics == {"length": 4.0}


def test_another_column_is_the_reference(scoring) -> None:
    """``reference`` names the column that other libraries call ground truth."""
    assert scoring("verl", "five", more=", with: {reference: solution}", solution="five").reward == 1.0


def test_a_missing_column_is_known_beforehand(scoring, tmp_path: Path) -> None:
    """What a function reads is told by its parameters, so that a missing column is found before a run."""
    assert scoring("trl", other="o").unscored.message == "the row has no value in column 'solution'"
    assert set(read_config(tmp_path / "reward.yaml", Registry.load()).needed_fields()) == {"solution"}


def test_a_slow_function_is_killed(scoring) -> None:
    """A function that hangs is killed after the time-out, and its row is unscored."""
    item = scoring("slow", more=", timeout: 1")
    assert (item.reward, item.unscored.kind) == (None, "timeout")


def test_what_it_raises_is_no_score(scoring) -> None:
    """An exception is a failure of the function, not a wrong answer."""
    item = scoring("broken")
    assert (item.reward, item.unscored.kind) == (None, "plugin")
    assert "RuntimeError: mine" in item.unscored.message


def config(tmp_path: Path, use: str, more: str = ""):
    """Read a reward file that uses a function."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "reward.yaml").write_text(f"version: 1\ncomponents:\n  c: {{use: '{use}'{more}}}\n")
    return read_config(tmp_path / "reward.yaml", Registry.load())


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("./other.py:f", "there is no file"),
        ("./mine.py:f", "has no function 'f'; it has broken, fragile, meets, openrlhf, ours"),
        ("no.such.module:f", "there is no module 'no.such.module'"),
        ("./mine.py:unknown", r"unknown\(text, other\) can't be recognised by its parameters: set 'style'"),
    ],
)
def test_mistakes_have_their_place(tmp_path: Path, use: str, message: str) -> None:
    """What can't work is found when the file is read, with its line and column."""
    with pytest.raises(ConfigError, match=rf"reward\.yaml:3:\d+: .*{message}"):
        config(tmp_path, use)


def test_unknown_parameters_are_refused(tmp_path: Path) -> None:
    """Keys that a function does not take are named."""
    with pytest.raises(ConfigError, match="unknown key 'bonus'"):
        config(tmp_path, "./mine.py:ours", ", with: {bonus: 1}")


def test_the_style_can_be_set(tmp_path: Path) -> None:
    """A function whose parameters tell nothing works once its style is set."""
    assert config(tmp_path, "./mine.py:unknown", ", with: {style: rewardkit}").component_names == ("c",)


def test_an_edit_is_another_reward(tmp_path: Path) -> None:
    """The file's content is part of the reward_id; its folder is not."""
    first = config(tmp_path, "./mine.py:ours").reward_id
    (tmp_path / "elsewhere").mkdir()
    assert config(tmp_path / "elsewhere", "./mine.py:ours").reward_id == first
    (tmp_path / "mine.py").write_text(FUNCTIONS + "# edited\n")
    assert read_config(tmp_path / "reward.yaml", Registry.load()).reward_id != first


def test_checking_imports_nothing(tmp_path: Path) -> None:
    """`rewardkit check` reads a function's parameters from its source and never runs its file."""
    config(tmp_path, "./mine.py:ours")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "completion": "c"}\n')
    assert run(["check", str(tmp_path / "reward.yaml"), "--data", str(tmp_path / "rows.jsonl")]) == 0
    assert not (tmp_path / "imported").exists()


def test_scoring_files(tmp_path: Path) -> None:
    """`rewardkit score` runs functions in its processes, from any folder."""
    config(tmp_path, "./mine.py:ours")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "completion": "four"}\n' * 20)
    out = tmp_path / "out.jsonl"
    assert (
        run(["score", str(tmp_path / "rows.jsonl"), "--reward", str(tmp_path / "reward.yaml"), "--out", str(out)]) == 0
    )
    assert out.read_text().count('"reward":4.0') == 20


def test_a_module_is_found_without_importing_it(tmp_path: Path, monkeypatch) -> None:
    """``package.module:name`` is looked up on the import path; its packages are not imported."""
    package = tmp_path / "toypackage"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "inner.py").write_text("def f(rollout):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = FunctionSource.find("toypackage.inner:f", Path(os.devnull))
    assert source.target == "toypackage.inner:f"
    assert source.parameters == {"rollout": False}


@pytest.mark.parametrize(
    ("names", "style"),
    [
        (["rollout", "completions"], "rewardkit"),
        (["completions", "answer"], "trl"),
        (["prompts", "completions", "kwargs"], "trl"),
        (["data_source", "solution_str", "ground_truth", "extra_info"], "verl"),
        (["queries", "prompts", "labels"], "openrlhf"),
        (["completion", "answer"], "verifiers"),
        (["state"], "verifiers"),
    ],
)
def test_styles(names: list[str], style: str) -> None:
    """The names of the parameters tell whose function it is."""
    assert style_of(names, "f") == style


def test_what_names_a_function() -> None:
    """A colon makes a function of a name; plugins' rewards have none."""
    assert is_function("./a.py:f")
    assert is_function("a.b:f")
    assert not is_function("format.tags")
    assert not is_function("a:")


def test_a_coroutine_function_waits_for_many_rollouts_at_a_time(tmp_path: Path) -> None:
    """One worker has several calls under way, within the limits of the file."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "reward.yaml").write_text(
        "version: 1\ncomponents: {c: {use: './mine.py:meets', timeout: 60, limits: {concurrency: 4}}}\n"
    )
    with load_reward(tmp_path / "reward.yaml", workers=1) as reward:
        scored = reward.score([Rollout("q", text) for text in "123"])
    assert [item.reward for item in scored] == [1.0, 2.0, 3.0]


def test_a_worker_that_dies_costs_only_its_culprit_the_score(tmp_path: Path) -> None:
    """The rollouts that a coroutine function had under way with it are scored again one by one."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "reward.yaml").write_text("version: 1\ncomponents: {c: {use: './mine.py:fragile', timeout: 60}}\n")
    with load_reward(tmp_path / "reward.yaml", workers=1) as reward:
        scored = reward.score([Rollout("q", text) for text in ("a", "dies", "b")])
    assert [item.reward for item in scored] == [1.0, None, 1.0]


def test_none_of_a_function_of_trl_is_not_applicable(scoring) -> None:
    """TRL's None says that the function does not apply; as the only component it leaves the row unscored."""
    item = scoring("trl", "skip", solution="five", other="o")
    assert item.outcomes["c"] == NotApplicable("the function returned None")
    assert item.unscored is not None
    assert item.unscored.kind == "input"
