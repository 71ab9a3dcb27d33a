"""Runs whose weights, losses or gradients become infinite or NaN."""

from __future__ import annotations

import json

import pytest
import torch

from rewardkit.errors import RewardkitError
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.models.policy import Policy
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.trainer.launch import launch

ROLLOUTS = {
    "data": {"train": "train.jsonl"},
    "reward": {"components": {"length": {"use": "length.penalty", "with": {"per_token": 0.02}}}},
    "rollout": {"prompts_per_step": 3, "group_size": 4, "max_new_tokens": 12},
}
PAIRS = {"data": {"train": "pairs.jsonl", "eval_share": 0.0}, "batch_size": 4}
STAGE_SETTINGS = {
    "sft": {"data": {"train": "sft.jsonl"}, "batch_size": 4},
    "reward_model": PAIRS,
    "dpo": PAIRS,
    "grpo": ROLLOUTS,
    "ppo": {**ROLLOUTS, "rollout": {**ROLLOUTS["rollout"], "group_size": 1, "prompts_per_step": 8}},
}


def train(work, output, stage, **settings):
    """Run a stage for some steps."""
    own = STAGE_SETTINGS[stage]
    config = {
        "version": 1,
        "stage": stage,
        "output": str(output),
        "model": {"path": str(work / "base")},
        "steps": 6,
        "threads": 1,
        "checkpoint": {"every": 1},
        **own,
        "data": {**own["data"], "train": str(work / own["data"]["train"])},
        **settings,
    }
    return launch(read_train_config(config), STAGES[stage].runner())


@pytest.mark.parametrize("stage", STAGE_SETTINGS)
def test_a_run_that_diverges_stops_in_every_stage(work, tmp_path, stage):
    """It is an error that names the last good checkpoint, whose weights are finite. No model is saved."""
    output = tmp_path / "run"
    # The KL term has a gradient even if all completions of the broken policy get the same reward.
    kl = {"kl": {"coefficient": 0.1, "place": "loss"}} if stage == "grpo" else {}
    with pytest.raises(NonFiniteError, match=r"not finite|infinite or NaN") as error:
        train(work, output, stage, optimizer={"lr": 1e37}, **kl)
    checkpoints = sorted(output.glob("checkpoints/*"))
    assert not checkpoints or str(checkpoints[-1]) in str(error.value)
    assert error.value.exit_code == 1
    assert not (output / "final").exists()


@pytest.fixture
def broken_step(monkeypatch):
    """Make the log-probs of the third call with gradient NaN."""
    calls = []
    original = Policy.forward_logprobs

    def forward_logprobs(self, *args, **options):
        found = original(self, *args, **options)
        if torch.is_grad_enabled():
            calls.append(found)
            if len(calls) == 3:
                found.logprobs_B_T.mul_(torch.nan)
        return found

    monkeypatch.setattr(Policy, "forward_logprobs", forward_logprobs)
    return calls


def test_the_error_names_the_last_good_checkpoint(work, tmp_path, broken_step):
    """And how to skip such updates."""
    output = tmp_path / "run"
    with pytest.raises(NonFiniteError, match=r"optimizer\.non_finite: skip") as error:
        train(work, output, "sft")
    assert str(error.value).startswith("step 3: the loss is not finite")
    assert f"The last good checkpoint is {output / 'checkpoints' / 'step-000002'}" in str(error.value)


def test_a_skipped_update_is_counted_and_the_run_goes_on(work, tmp_path, broken_step):
    """The metric updates_skipped is 1 in that step."""
    output = tmp_path / "run"
    train(work, output, "sft", optimizer={"non_finite": "skip"})
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [record["updates_skipped"] for record in records] == [0, 0, 1, 0, 0, 0]
    assert (output / "final").is_dir()


def test_a_stopped_run_resumes_with_skipping(work, tmp_path, broken_step):
    """The setting may change, no other of the optimizer."""
    output = tmp_path / "run"
    with pytest.raises(NonFiniteError):
        train(work, output, "sft")
    with pytest.raises(RewardkitError, match="other values of optimizer"):
        train(work, output, "sft", optimizer={"non_finite": "skip", "lr": 1e-4})
    assert train(work, output, "sft", optimizer={"non_finite": "skip"}).is_dir()
