"""Alarms: raised once when a figure stays out of its bound, and when a hackable reward is hacked."""

from __future__ import annotations

import json
import re

import pytest

from rewardkit import Rollout, reward
from rewardkit.registry import Registry
from rewardkit.train.config import MonitorsConfig
from rewardkit.train.grpo import train_grpo
from rewardkit.train.launch import launch
from rewardkit.train.monitors import Monitors
from rewardkit.train.run import AlarmError
from rewardkit.train.stages import read_train_config
from rewardkit.train.statistics import repetition

CONFIG = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{proxy: {{use: digits}}}}}}
steps: 16
rollout: {{prompts_per_step: 8, group_size: 4, max_new_tokens: 12}}
optimizer: {{lr: 3.0e-3}}
evaluate: {{every: 4, limit: 16, gold: {{components: {{meant: {{use: variety}}}}}}}}
checkpoint: {{every: 4, keep: 4}}
monitors: {{on_alarm: {on_alarm}, zero_spread: null, truncated: null, repetition: null, length_correlation: null}}
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """What is trained: the share of digits, of any kind."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


@reward("variety")
def variety(rollout: Rollout) -> float:
    """What was meant: many different characters that are no digits."""
    return len(set(rollout.completion_text) - set("0123456789")) / 12


def run(work, folder, on_alarm, **changes):
    """Train on a reward that can be hacked."""
    folder.mkdir(exist_ok=True)
    registry = Registry()
    registry.register(digits)
    registry.register(variety)
    config = folder / "grpo.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, on_alarm=on_alarm))
    changes = {key.replace("__", "."): str(value) for key, value in changes.items()}
    launch(read_train_config(config, registry, changes), train_grpo)


def lines(file):
    """A file of records."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_hacking_raises_the_alarm(work, tmp_path):
    """While the proxy rises and gold falls; told once, and the run goes on."""
    run(work, tmp_path, "warn")
    evals = [line for line in lines(tmp_path / "out/metrics.jsonl") if line["kind"] == "eval"]
    assert evals[-1]["reward"] > evals[0]["reward"]
    assert evals[-1]["gold"] < evals[0]["gold"] - 0.05
    alarms = lines(tmp_path / "out/alarms.jsonl")
    assert [alarm["name"] for alarm in alarms] == ["gold_drop"]
    assert "likely exploiting the reward" in alarms[0]["message"]
    assert (tmp_path / "out/final").is_dir()


def test_a_run_can_stop_at_an_alarm(work, tmp_path):
    """With everything kept."""
    with pytest.raises(AlarmError, match="stopped after step"):
        run(work, tmp_path, "stop")
    assert not (tmp_path / "out/final").exists()
    assert list((tmp_path / "out/checkpoints").iterdir())


def test_a_run_goes_back_to_before_the_alarm(work, tmp_path):
    """Weights, optimiser and place in the data are those of the last calm checkpoint, bit for bit; later ones are gone."""
    import torch
    from safetensors.torch import load_file

    changes = {  # gold rises at first
        "evaluate__gold": "{components: {meant: {use: digits, weight: {steps: [[0, 1.0], [6, -1.0]]}}}}",
        "evaluate__every": 1,
        "checkpoint__every": 1,
        "checkpoint__keep": 1,
        "optimizer__lr": 1.0e-3,
    }
    with pytest.raises(AlarmError, match=r"rolled back from step \d+ to step \d+") as caught:
        run(work, tmp_path, "rollback", **changes)
    left, reached = map(int, re.search(r"from step (\d+) to step (\d+)", str(caught.value)).groups())
    assert 0 < reached < left
    *_, last = sorted((tmp_path / "out/checkpoints").iterdir())
    state = json.loads((last / "state.json").read_text())
    assert state["step"] == reached
    assert not any(state["monitors"]["out_for"].values())

    # A run that ends there by itself comes to the same.
    run(work, tmp_path / "short", "rollback", steps=reached, **changes)
    final = load_file(tmp_path / "out/final/model.safetensors")
    short = load_file(tmp_path / "short/out/final/model.safetensors")
    assert all(torch.equal(value, short[name]) for name, value in final.items())
    before, after = (
        torch.load(folder / "policy.optimizer.pt", weights_only=True)["state"]
        for folder in (last, tmp_path / f"short/out/checkpoints/step-{reached:06d}")
    )
    assert all(torch.equal(value, after[key][name]) for key, entry in before.items() for name, value in entry.items())
    alarms = lines(tmp_path / "out/alarms.jsonl")
    assert alarms[-1]["step"] == left


def test_an_alarm_needs_patience_and_is_raised_once():
    """Three steps in a row; a step within bounds starts the count again."""
    monitors = Monitors(MonitorsConfig(patience=3, kl=0.5))
    seen = [len(monitors.watch({"kl_per_token": value})) for value in (1, 1, 0.1, 1, 1, 1, 1, 1)]
    assert seen == [0, 0, 0, 0, 0, 1, 0, 0]


def test_a_bound_of_null_is_no_bound():
    """Nor is a figure that is not there out of bounds."""
    monitors = Monitors(MonitorsConfig(patience=1, kl=None))
    assert monitors.watch({"kl_per_token": 100.0}) == []


def test_entropy_is_held_against_the_first_step():
    """A collapse is a fall, not a low value."""
    monitors = Monitors(MonitorsConfig(patience=1, entropy_share=0.1))
    assert monitors.watch({"entropy": 0.02}) == []
    assert monitors.watch({"entropy": 0.01}) == []
    assert [alarm.name for alarm in monitors.watch({"entropy": 0.001})] == ["entropy_share"]


def test_the_state_goes_on_from_a_checkpoint():
    """Counts, the first entropy and the best gold are kept."""
    first = Monitors(MonitorsConfig(patience=2, kl=0.5))
    first.watch({"kl_per_token": 1.0, "entropy": 2.0})
    first.watch_gold(0.1, 0.9)
    second = Monitors(MonitorsConfig(patience=2, kl=0.5))
    second.restore(json.loads(json.dumps(first.state())))
    assert [alarm.name for alarm in second.watch({"kl_per_token": 1.0, "entropy": 0.01})] == ["kl"]
    assert [alarm.name for alarm in second.watch_gold(0.5, 0.5)] == ["gold_drop"]
    assert not second.is_calm


def test_repetition_is_the_share_of_runs_seen_before():
    """By hand: of 1,2,1,2,1,2 the runs of four are 1212, 2121, 1212."""
    assert repetition((1, 2, 1, 2, 1, 2)) == pytest.approx(1 / 3)
    assert repetition((1, 2, 3, 4, 5)) == 0
    assert repetition((1, 2)) == 0
