"""The data of a training configuration are checked before the model is loaded."""

from __future__ import annotations

import json
import sys

import pytest

from rewardkit import FieldName, Rollout, reward
from rewardkit.errors import ConfigError, DataError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.data.input_check import check_inputs

REWARD = "reward: {components: {right: {use: right, with: {gold: GOLD}}}}\n"
ROUTED = """reward:
  composites: {a: {components: {right: {use: right, with: {gold: answer}}}}}
  routes: [{match: {kind: math}, composite: a}]
"""
STAGES = {
    "sft": ("steps: 1\n", {"prompt": "1", "completion": "2"}),
    "dpo": ("steps: 1\n", {"prompt": "1", "chosen": "2", "rejected": "3"}),
    "reward_model": ("steps: 1\n", {"prompt": "1", "chosen": "2", "rejected": "3", "better_by": 1}),
    "grpo": ("steps: 1\n", {"prompt": "1", "answer": "2"}),
}


@reward("right")
def right(rollout: Rollout, *, gold: FieldName) -> float:
    """Compare with the reference."""
    return float(rollout.completion_text == rollout.fields[gold])


def check(tmp_path, stage, rows, more="", keys=("train", "eval"), reward=REWARD, gold="answer"):
    """Check a configuration whose data are these rows: a list of files, each a list of rows."""
    more += reward.replace("GOLD", gold) if stage == "grpo" else ""
    for number, some in enumerate(rows):
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"rows-{number}.jsonl").write_text(text)
    data = f"data:\n  train: rows-*.jsonl\n{more}"
    head = f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: none}}\n"
    (tmp_path / "config.yaml").write_text(head + data + STAGES[stage][0])
    registry = Registry()
    registry.register(right)
    check_inputs(read_train_config(tmp_path / "config.yaml", registry), *keys)


@pytest.mark.parametrize("stage", STAGES)
def test_good_rows_pass(tmp_path, stage):
    """Rows with all columns pass, without torch and without the model."""
    check(tmp_path, stage, [[STAGES[stage][1]], [STAGES[stage][1]]])


@pytest.mark.parametrize(
    ("stage", "gone", "problem"),
    [
        ("sft", "prompt", "data.prompt: no row of .*rows-1.jsonl has a value in column 'prompt'"),
        ("sft", "completion", "data.completion: no row of .* has a value in column 'completion'"),
        ("dpo", "chosen", "data.chosen: no row of .* has a value in column 'chosen'"),
        ("reward_model", "rejected", "data.rejected: no row of .* has a value in column 'rejected'"),
        ("grpo", "prompt", "data.prompt: no row of .* has a value in column 'prompt'"),
    ],
)
def test_each_file_has_the_columns_of_the_stage(tmp_path, stage, gone, problem):
    """A column that one of two files lacks is an error with the place of the key."""
    row = STAGES[stage][1]
    lacking = {name: value for name, value in row.items() if name != gone}
    with pytest.raises(ConfigError, match=rf"config\.yaml:\d+:\d+: {problem}"):
        check(tmp_path, stage, [[row], [lacking]])


def test_a_misspelt_column_gets_a_suggestion(tmp_path):
    """The suggestion may be a path into nested columns; several mistakes are listed together."""
    rows = [{"turns": [{"content": "1"}], "response": "2"}]
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, "sft", [rows], "  prompt: turns.0.contents\n  completion: respons\n")
    first, second = str(caught.value).splitlines()
    assert "config.yaml:7:11: data.prompt: " in first
    assert first.endswith("Its columns are turns, response; did you mean 'turns.0.content'?")
    assert "config.yaml:8:15: data.completion: " in second
    assert second.endswith("did you mean 'response'?")


def test_a_margin_is_a_column(tmp_path):
    """The column of ``loss.margin`` must exist."""
    row = STAGES["reward_model"][1]
    check(tmp_path, "reward_model", [[row]], "loss: {margin: better_by}\n")
    with pytest.raises(ConfigError, match=r"loss\.margin: no row of .* did you mean 'better_by'\?"):
        check(tmp_path, "reward_model", [[row]], "loss: {margin: betterby}\n")


def test_columns_of_the_reward(tmp_path):
    """A column that the reward reads may be a path; one that no row has is an error with a suggestion."""
    rows = [[{"prompt": "1", "reward_model": {"ground_truth": "2"}}]]
    check(tmp_path, "grpo", rows, gold="reward_model.ground_truth")
    with pytest.raises(DataError) as caught:
        check(tmp_path, "grpo", rows, gold="ground_truth")
    assert "component 'right' reads column 'ground_truth', which" in str(caught.value)
    assert "did you mean 'reward_model.ground_truth'?" in str(caught.value)


def test_columns_of_the_condition_for_right_answers(tmp_path):
    """``evaluate.correct`` reads held-out rows only."""
    more = "  eval: rows-*.jsonl\nevaluate: {correct: 'right == 1 and fields.level > 2'}\n"
    rows = [[STAGES["grpo"][1]]]
    check(tmp_path, "grpo", rows, more, keys=("train",))
    with pytest.raises(ConfigError, match=r"evaluate\.correct: no row of .* has a value in column 'level'"):
        check(tmp_path, "grpo", rows, more)


def test_a_row_without_a_route_is_refused(tmp_path):
    """The error names the row; training would stop at the step that samples it."""
    rows = [{"prompt": "1", "answer": "1", "kind": "math"}, {"prompt": "1", "answer": "1", "kind": "code"}]
    with pytest.raises(DataError, match=r"rows-0\.jsonl:2: .*no route \w+ a row with kind='code'"):
        check(tmp_path, "grpo", [rows], reward=ROUTED)


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ("none.jsonl", r"config\.yaml:3:10: there is no file .*none\.jsonl"),
        ("none-*.jsonl", r"config\.yaml:3:10: no file matches .*none-\*\.jsonl"),
        ("[rows.jsonl, none.jsonl]", r"config\.yaml:3:23: there is no file .*none\.jsonl"),
        (".", r"config\.yaml:3:10: .* is a folder"),
    ],
)
def test_a_missing_file_has_its_place(tmp_path, train, problem):
    """Each path and glob that names no file is an error with its place in the configuration."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(STAGES["sft"][1]))
    text = f"version: 1\ndata:\n  train: {train}\nstage: sft\noutput: out\nmodel: {{path: none}}\nsteps: 1\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        check_inputs(read_train_config(tmp_path / "config.yaml", Registry()), "train")


def test_files_without_rows(tmp_path):
    """Files without a single row are refused; one empty file among others is not."""
    check(tmp_path, "sft", [[], [STAGES["sft"][1]]])
    with pytest.raises(DataError, match="no rows"):
        check(tmp_path, "sft", [[], []])


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        (
            "{path: a.jsonl, weigth: 2}",
            r"config.yaml:4:\d+: unknown key 'weigth' in data.train; did you mean 'weight'\?",
        ),
        ("[{path: a.jsonl, weight: 1}, {path: b.jsonl, split: test}]", r":4:\d+: split has no effect on a path"),
        ("[{path: a.jsonl, weight: 1}, b.jsonl]", r"4:\d+: train: some sources have a weight and others have none"),
        ("{path: a.jsonl, weight: 1}", "the weight of a single source has no effect"),
        ("{rows: 3}", "set either path or hub"),
        ("[a.jsonl, gone.jsonl]", r"config.yaml:4:\d+: there is no file .*gone.jsonl"),
        ("[a.jsonl, b.jsonl]", r"data.completion: no row of .*b.jsonl has a value in column 'completion'.*'completed'"),
        ("[a.jsonl, hf:no/such]", r"config.yaml:4:\d+: hf:no/such needs datasets: pip install"),
    ],
)
def test_a_bad_source_is_told_with_its_place(tmp_path, monkeypatch, train, problem):
    """A misspelt key or column, a weight without effect, and what does not exist."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.jsonl").write_text('{"prompt": "1", "completion": "2"}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": "1", "completed": "2"}\n')
    config = f"version: 1\nstage: sft\nsteps: 1\ndata: {{train: {train}}}\noutput: out\nmodel: {{path: none}}\n"
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ConfigError, match=problem):
        check_inputs(read_train_config(tmp_path / "config.yaml", Registry()), "train")
