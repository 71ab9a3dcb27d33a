"""Faults of configuration, model, data, reward and disk are reported with what to do."""

from __future__ import annotations

import json
import shutil

import pytest

from rewardkit import Rollout, Score, Unscored, hookimpl, reward
from rewardkit.errors import ConfigError, DataError, OutputError, TooManyUnscoredError, UsageError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

STAGE = {
    "sft": "stage: sft\ndata: {{train: {data}/sft.jsonl}}\nbatch_size: 4\nsteps: 2\n",
    "dpo": "stage: dpo\ndata: {{train: {data}/pairs.jsonl}}\nbatch_size: 4\nsteps: 2\n",
    "reward_model": "stage: reward_model\ndata: {{train: {data}/pairs.jsonl}}\nbatch_size: 4\nsteps: 2\n",
    "grpo": """stage: grpo
data: {{train: {data}/train.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
rollout: {{prompts_per_step: 2, group_size: 2, max_new_tokens: 4}}
steps: 2
""",
}
STAGE["ppo"] = STAGE["grpo"].replace("grpo", "ppo")
FAILS = {"after": 0}


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Count the digits."""
    return float(sum(map(str.isdigit, rollout.completion_text)))


@reward("mortal")
def mortal(rollout: Rollout) -> Score | Unscored:
    """Score some completions, then fail as if its server had gone."""
    FAILS["after"] -= 1
    return Score(1.0) if FAILS["after"] >= 0 else Unscored("infra", "the box is gone")


def train(tmp_path, work, stage, model=None, data=None, **changes):
    """Run a stage, and return its folder."""
    registry = Registry()
    registry.register(digits)
    registry.register(mortal)
    head = f"version: 1\noutput: {tmp_path / 'out'}\nmodel: {{{{path: {model or work / 'base'}}}}}\n"
    (tmp_path / "config.yaml").write_text((head + STAGE[stage]).format(data=data or work))
    changes = {key.replace("__", "."): str(value) for key, value in changes.items()}
    file = read_train_config(tmp_path / "config.yaml", registry, changes)
    launch(file, STAGES[stage].runner())
    return tmp_path / "out"


@pytest.mark.parametrize("stage", STAGE)
def test_a_folder_without_a_model(tmp_path, work, stage):
    """The error names the place in the file, and nothing is written."""
    (tmp_path / "notes").mkdir()
    with pytest.raises(ConfigError, match=r"config\.yaml:3:15: .*notes is no model folder: it holds no config\.json"):
        train(tmp_path, work, stage, model=tmp_path / "notes")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", STAGE)
def test_a_tokenizer_without_padding_will_do(tmp_path, work, stage):
    """No stage needs a padding token, since masks mark the padding."""
    model = shutil.copytree(work / "base", tmp_path / "model")
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        content = json.loads((model / name).read_text())
        content.pop("pad_token", None)
        content.pop("pad_token_id", None)
        (model / name).write_text(json.dumps(content))
    out = train(tmp_path, work, stage, model=model)
    assert (out / "final/config.json").is_file()


@pytest.mark.parametrize("stage", STAGE)
def test_an_empty_data_set(tmp_path, work, stage):
    """The error names the file."""
    for name in ("sft", "pairs", "train"):
        (tmp_path / f"{name}.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"\.jsonl: no rows"):
        train(tmp_path, work, stage, data=tmp_path)


def test_a_group_of_one(tmp_path, work):
    """A group of one can't be compared; the error says what to use instead."""
    with pytest.raises(ConfigError, match=r"group_size is 1.*use at least 2, or algorithm: {use: reinforce\+\+}"):
        train(tmp_path, work, "grpo", rollout__group_size=1)


def test_a_reward_that_dies_in_the_middle_of_a_run(tmp_path, work):
    """The run stops at that step with the cause, and unscored completions are not trained on."""
    FAILS["after"] = 4
    with pytest.raises(
        TooManyUnscoredError, match=r"step 2: 4 of 4 rollouts could not be scored \(4 infra\).*the box is gone"
    ):
        train(tmp_path, work, "grpo", reward="{components: {mortal: {use: mortal}}}")
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["reward"]) for line in lines] == [(1, 1.0)]
    assert not (tmp_path / "out/final").exists()


def test_a_reward_that_dies_in_an_evaluation(tmp_path, work):
    """An evaluation does not count what could not be scored."""
    FAILS["after"] = 0
    with pytest.raises(TooManyUnscoredError, match="the evaluation after step 0: 5 of 5 rollouts"):
        train(
            tmp_path,
            work,
            "grpo",
            reward="{components: {mortal: {use: mortal}}}",
            data__eval=work / "heldout.jsonl",
            evaluate__limit=5,
        )


def test_data_that_changed_since_the_run_began(tmp_path, work):
    """A run is not resumed with other rows."""
    data = tmp_path / "sft.jsonl"
    lines = (work / "sft.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:50]))
    train(tmp_path, work, "sft", data=tmp_path)
    data.write_text("".join(lines[:49]))
    with pytest.raises(UsageError, match=r"sft\.jsonl has changed since the run in .*out began.*--fresh"):
        train(tmp_path, work, "sft", data=tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda folder: (folder / "sft-2.jsonl").write_text((folder / "sft-1.jsonl").read_text()),
            "2.jsonl has changed",
        ),
        (lambda folder: (folder / "sft-2.jsonl").unlink(), "2.jsonl is no longer part of data.train"),
        (
            lambda folder: (folder / "sft-1.jsonl").rename(folder / "sft-3.jsonl"),
            "1.jsonl is no longer part of data.train",
        ),
        (
            lambda folder: (folder / "sft-3.jsonl").write_text((folder / "sft-1.jsonl").read_text()),
            "3.jsonl was added to data.train",
        ),
    ],
)
def test_a_glob_that_matches_other_files(tmp_path, work, change, problem):
    """A run is not resumed if a file that its glob matched has changed, has gone, or has been added."""
    lines = (work / "sft.jsonl").read_text().splitlines(keepends=True)
    for number in (1, 2):
        (tmp_path / f"sft-{number}.jsonl").write_text("".join(lines[20 * number : 20 * number + 20]))
    train(tmp_path, work, "sft", data__train=tmp_path / "sft-*.jsonl")
    train(tmp_path, work, "sft", data__train=tmp_path / "sft-*.jsonl")
    change(tmp_path)
    with pytest.raises(UsageError, match=f"{problem} since the run in .*out began"):
        train(tmp_path, work, "sft", data__train=tmp_path / "sft-*.jsonl")


@pytest.mark.parametrize("stage", STAGE)
def test_a_full_disk(tmp_path, work, stage, monkeypatch):
    """The error names the file, and earlier files are intact."""
    from rewardkit.train.trainer.run import Run

    original = Run._append

    def full(self, name, records):
        if records and records[0]["step"] == 2:
            raise OutputError("metrics.jsonl can't be written: No space left on device")
        original(self, name, records)

    monkeypatch.setattr(Run, "_append", full)
    with pytest.raises(OutputError, match="No space left on device"):
        train(tmp_path, work, stage, checkpoint__every=1)
    monkeypatch.undo()
    out = train(tmp_path, work, stage, checkpoint__every=1)  # there is room again
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "train"] == [1, 2]


class Saboteur:
    """Calls a function after the first step."""

    def __init__(self, act):
        self.act = act

    @hookimpl
    def training_step_finished(self, step):
        """Call the function."""
        if step == 1:
            self.act()


def test_a_moved_run_is_resumed(tmp_path, work):
    """A run that was moved together with its data is resumed; changed data are still refused."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(work, before)
    train(before, before, "sft", data=before, steps=1)
    before.rename(after)
    config = after / "out/config.json"
    train(after, after, "sft", data=after, steps=1)
    assert json.loads(config.read_text())["config"]["output"] == str(after / "out")
    (after / "sft.jsonl").write_text("")
    after.rename(before)
    with pytest.raises(UsageError, match=r"sft\.jsonl has changed"):
        train(before, before, "sft", data=before, steps=1)


def test_a_reward_file_that_changed_since_the_run_began(tmp_path, work):
    """A run is not resumed with another reward, even at another path."""
    reward = tmp_path / "reward.yaml"
    reward.write_text("version: 1\ncomponents: {digits: {use: digits}}\n")
    train(tmp_path, work, "grpo", reward=reward, steps=1)
    reward.write_text("version: 1\n# the same\ncomponents: {digits: {use: digits}}\n")
    train(tmp_path, work, "grpo", reward=reward, steps=1)
    reward.write_text("version: 1\ncomponents: {digits: {use: digits, weight: 2}}\n")
    with pytest.raises(UsageError, match="contains a run with other values of reward;"):
        train(tmp_path, work, "grpo", reward=reward, steps=1)
