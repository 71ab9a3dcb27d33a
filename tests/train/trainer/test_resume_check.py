"""A run may be given another number of steps; every other change is refused."""

from __future__ import annotations

import json
import signal

import pytest
from safetensors.torch import load_file

from rewardkit import Rollout, reward
from rewardkit.errors import UsageError
from rewardkit.registry import Registry
from rewardkit.train import train
from rewardkit.train.trainer.run import Interrupted, Run

DATA = {"sft": "sft", "dpo": "pairs", "reward_model": "pairs", "grpo": "train", "ppo": "train"}


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Count the digits."""
    return float(sum(map(str.isdigit, rollout.completion_text)))


@pytest.fixture
def launch(work, tmp_path):
    """Return a function that trains a stage in a folder."""
    registry = Registry()
    registry.register(digits)

    def start(stage, name="run", **changes):
        config = {
            "version": 1,
            "stage": stage,
            "output": str(tmp_path / name),
            "model": {"path": str(work / "base")},
            "data": {"train": str(work / f"{DATA[stage]}.jsonl")},
            "optimizer": {"lr": 0.001, "warmup_steps": 3},
            "threads": 1,
        }
        if stage in {"grpo", "ppo"}:
            config["reward"] = {"components": {"digits": {"use": "digits"}}}
            config["rollout"] = {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 4}
            config["kl"] = {"coefficient": 0.02, "target": 0.5, "horizon": 50}
        else:
            config["batch_size"] = 4
        return train(config | changes, registry=registry)

    return start


def steps(run):
    """Return the training steps that a run has logged."""
    return [record["step"] for record in run.metrics if record["kind"] == "train"]


def equal(one, two):
    """Return whether two runs end with the same weights, bit for bit."""
    weights = [load_file(run.model / "model.safetensors") for run in (one, two)]
    return all(value.equal(weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("stage", DATA)
def test_a_lengthened_run_equals_a_long_one(launch, stage):
    """A finished run with more steps resumes, and ends as if it had had them from the start."""
    short = launch(stage, steps=2)
    long = launch(stage, steps=4)
    assert steps(long) == [1, 2, 3, 4]
    assert json.loads((short.folder / "config.json").read_text())["total_steps"] == 4
    whole = launch(stage, "whole", steps=4)
    assert equal(long, whole)


def test_more_epochs(launch, work, tmp_path):
    """Epochs may be raised, too, and be replaced by steps."""
    rows = (work / "sft.jsonl").read_text().splitlines(keepends=True)[:10]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    data = {"train": str(tmp_path / "rows.jsonl")}
    assert steps(launch("sft", data=data, epochs=1)) == [1, 2, 3]
    assert steps(launch("sft", data=data, epochs=2)) == [1, 2, 3, 4, 5]
    assert equal(launch("sft", data=data, steps=6), launch("sft", "whole", data=data, steps=6))


@pytest.fixture
def interrupted(launch, monkeypatch):
    """Return a function that starts a run and interrupts it in its third step."""

    def start(stage, **changes):
        original = Run.steps

        def until_third(self, first):
            for step in original(self, first):
                if step == 2:
                    signal.raise_signal(signal.SIGINT)
                yield step

        with monkeypatch.context() as patch:
            patch.setattr(Run, "steps", until_third)
            with pytest.raises(Interrupted):
                launch(stage, **changes)

    return start


@pytest.mark.parametrize("stage", ["sft", "grpo"])
@pytest.mark.parametrize("total", [3, 4, 7])
def test_an_interrupted_run_gets_another_length(launch, interrupted, stage, total):
    """An interrupted run may be lengthened, and shortened to no fewer steps than it has done."""
    interrupted(stage, steps=6)
    run = launch(stage, steps=total)
    assert steps(run) == list(range(1, total + 1))
    assert equal(run, launch(stage, "whole", steps=total))


def test_fewer_steps_than_are_done(launch):
    """A run can't be shortened to fewer steps than it has done, and stays as it is."""
    run = launch("sft", steps=3)
    record = (run.folder / "config.json").read_bytes()
    with pytest.raises(UsageError, match=r"has already done 3 steps, and is now to have 2; raise steps"):
        launch("sft", steps=2)
    assert (run.folder / "config.json").read_bytes() == record
    assert steps(launch("sft", steps=3)) == [1, 2, 3]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_schedule_that_depends_on_the_length(launch, stage, schedule):
    """A run with a decaying learning rate is not lengthened; the error says how to train on."""
    optimizer = {"lr": 0.001, "schedule": schedule}
    run = launch(stage, steps=2, optimizer=optimizer)
    with pytest.raises(
        UsageError, match=rf"steps has changed .* optimizer\.schedule: {schedule} .*model\.path: .*run/final"
    ):
        launch(stage, steps=4, optimizer=optimizer)
    assert steps(launch(stage, steps=2, optimizer=optimizer)) == [1, 2]
    more = launch(stage, "more", steps=2, optimizer=optimizer, model={"path": str(run.model)})
    assert steps(more) == [1, 2]


def test_a_reward_whose_weights_change_later(launch, work):
    """Held-out answers are scored with the weights of the last step, so these must stay the same."""
    scheduled = {
        "components": {"digits": {"use": "digits", "weight": {"linear": {"from": 1, "to": 0, "steps": [0, 8]}}}}
    }
    launch("grpo", steps=2, reward=scheduled)
    launch("grpo", steps=3, reward=scheduled)  # without held-out prompts nothing depends on the last step
    held_out = {"train": str(work / "train.jsonl"), "eval": str(work / "heldout.jsonl")}
    measured = {"data": held_out, "evaluate": {"limit": 2}, "reward": scheduled}
    launch("grpo", "measured", steps=2, **measured)
    with pytest.raises(UsageError, match="a weight of the reward is scheduled beyond its 2 steps"):
        launch("grpo", "measured", steps=3, **measured)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 4, "seed": 1}, "seed"),
        ({"steps": 4, "batch_size": 8}, "batch_size"),
        ({"steps": 4, "optimizer": {"lr": 0.002}}, "optimizer"),
        ({"steps": 2, "max_tokens": 64}, "max_tokens"),
    ],
)
def test_other_changes_are_refused(launch, changes, key):
    """Every other change that the weights depend on is refused by name, with or without more steps."""
    launch("sft", steps=2)
    with pytest.raises(UsageError, match=f"contains a run with other values of {key};"):
        launch("sft", **changes)
