"""``rewardkit check`` tells what is wrong before anything costly runs."""

import json

import pytest

from rewardkit.cli import run

REWARD = """version: 1
components:
  format:  {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}
  correct: {use: math, with: {reference: answer}, when: "format > 0"}
gate: "format >= 0"
clip: [-1, 1.5]
"""


@pytest.fixture
def reward(tmp_path):
    """A valid reward file."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(REWARD)
    return file


def rollouts(folder, *rows):
    """A file of rollouts with these fields on top of a prompt and a completion."""
    file = folder / "rollouts.jsonl"
    lines = [
        row if isinstance(row, str) else json.dumps({"prompt": "1+1?", "completion": r"\boxed{2}", **row})
        for row in rows
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_valid_file_is_shown_and_exits_with_0(reward, capsys):
    """Every component appears with its reward, its weight, what it reads and its condition."""
    assert run(["check", str(reward)]) == 0

    out = capsys.readouterr().out
    assert "format.tags" in out
    assert "0.2" in out
    assert "answer" in out
    assert "format > 0" in out
    assert "reward_id" in out


def test_a_mistake_is_told_with_its_place_and_exits_with_2(reward, capsys):
    """A misspelt key names file, line and column."""
    reward.write_text(REWARD.replace("weight", "wieght"))

    assert run(["check", str(reward)]) == 2
    assert f"{reward}:3:62: unknown key 'wieght'" in capsys.readouterr().err


def test_data_that_fit_are_counted(reward, tmp_path, capsys):
    """Rows, rollouts and prompts are told when nothing is wrong."""
    data = rollouts(tmp_path, {"answer": "2"}, {"answer": r"\frac{4}{2}"})

    assert run(["check", str(reward), "--data", str(data)]) == 0
    assert "2 rows, 2 rollouts of 1 prompts" in " ".join(capsys.readouterr().out.split())


def test_a_missing_value_and_a_broken_row_are_found_with_their_first_place(reward, tmp_path, capsys):
    """Problems of rows are counted by kind, each with the first row that has it."""
    data = rollouts(tmp_path, {"answer": "2"}, {}, "{broken", {})

    assert run(["check", str(reward), "--data", str(data), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["data"]["problems"]
    missing = next(item for item in problems if item["component"] == "correct")
    assert missing["problem"] == "the row has no value in column 'answer'"
    assert missing["count"] == 2
    assert missing["first"].endswith("rollouts.jsonl:2")
    broken = next(item for item in problems if item["component"] is None)
    assert broken["first"].endswith("rollouts.jsonl:3")


def test_a_reference_that_cant_be_understood_is_found_without_scoring(reward, tmp_path, capsys):
    """The reward's own check looks at every reference."""
    data = rollouts(tmp_path, {"answer": r"\frac{1}{"})

    assert run(["check", str(reward), "--data", str(data), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["data"]["problems"]
    assert problem["component"] == "correct"


def test_columns_can_be_renamed_as_in_scoring(reward, tmp_path):
    """--map works as it does for score."""
    data = rollouts(tmp_path, {"gt": "2"})

    assert run(["check", str(reward), "--data", str(data), "--map", "answer=gt"]) == 0


def test_a_row_without_a_route_is_found(tmp_path, capsys):
    """Routing is tried on every row."""
    file = tmp_path / "reward.yaml"
    file.write_text(
        "version: 1\n"
        "composites: {a: {components: {boxed: {use: format.boxed}}}}\n"
        "routes: [{match: {data_source: 'math*'}, composite: a}]\n"
    )
    data = rollouts(tmp_path, {"data_source": "math-500"}, {"data_source": "code"})

    assert run(["check", str(file), "--data", str(data), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)["data"]
    assert report["routed"] == {"a": 1}
    assert "no route matches a row with data_source='code'" in report["problems"][0]["problem"]
