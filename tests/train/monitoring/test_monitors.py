"""Alarms: raised once when a figure stays out of its bound, and when a hackable reward is hacked."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import orjson
import pytest

from rewardkit import Rollout, reward
from rewardkit.registry import Registry
from rewardkit.train.config import MonitorsConfig
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.monitoring.monitors import FIGURES, Monitors, standard_error
from rewardkit.train.monitoring.rollout_metrics import repetition
from rewardkit.train.stages.grpo import train_grpo
from rewardkit.train.trainer.launch import launch
from rewardkit.train.trainer.run import AlarmError

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
    assert (tmp_path / "out/best").is_dir()  # what was best before the trouble still is


def test_what_was_best_after_the_trouble_began_goes_with_it(work, tmp_path):
    """It was best by what is being exploited."""
    changes = {"evaluate__gold": "null", "evaluate__every": 1, "monitors__length_correlation": 1e-9}
    with pytest.raises(AlarmError, match="rolled back from step"):
        run(work, tmp_path, "rollback", monitors__patience=1, **changes)
    evals = [line["reward"] for line in lines(tmp_path / "out/metrics.jsonl") if line["kind"] == "eval"]
    assert evals[-1] > max(evals[:-1])
    assert not (tmp_path / "out/best").exists()


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
    assert monitors.watch({"entropy": 0.0}) == [], "not measured while a critic warms up"
    assert monitors.watch({"entropy": 0.02}) == []
    assert monitors.watch({"entropy": 0.01}) == []
    assert [alarm.name for alarm in monitors.watch({"entropy": 0.001})] == ["entropy_share"]


@pytest.mark.parametrize("name", ["repetition", "copied"])
def test_what_was_there_from_the_start_is_no_alarm(name):
    """Some tasks repeat themselves by nature; a rise to more than half of the way to 1 is told."""
    monitors = Monitors(MonitorsConfig(patience=1, **{name: 0.5}))
    assert monitors.watch({name: 0.6}) == []
    assert monitors.watch({name: 0.79}) == []
    [alarm] = monitors.watch({name: 0.81})
    assert alarm.name == name
    assert "0.81, up from 0.6 at first" in alarm.message


def test_a_task_that_is_solved_is_no_alarm():
    """Groups without spread are one only while the reward is no higher than at first."""
    monitors = Monitors(MonitorsConfig(patience=1))
    assert monitors.watch({"reward": 0.3, "zero_spread": 0.2}) == []
    assert monitors.watch({"reward": 0.99, "zero_spread": 0.99}) == []
    assert [alarm.name for alarm in monitors.watch({"reward": 0.3, "zero_spread": 0.99})] == ["zero_spread"]


def test_one_answer_to_each_prompt_is_an_alarm_only_where_nothing_was_won():
    """A policy that has learned its task says the same again and again, too."""
    monitors = Monitors(MonitorsConfig(patience=1))
    assert monitors.watch({"reward": 0.3, "duplicates": 0.7}) == []
    assert monitors.watch({"reward": 0.9, "duplicates": 1.0}) == []
    assert monitors.watch({"reward": 0.3, "duplicates": 0.95}) == []
    [alarm] = monitors.watch({"reward": 0.3, "duplicates": 0.98})
    assert "duplicates is 0.98, up from 0.7 at first" in alarm.message


def test_a_reward_that_is_always_the_same_is_an_alarm():
    """From the first step on: nothing will be learned."""
    monitors = Monitors(MonitorsConfig(patience=2))
    seen = [len(monitors.watch({"reward": 1.0, "zero_spread": 1.0})) for _ in range(3)]
    assert seen == [0, 1, 0]


def test_chance_in_a_small_evaluation_is_no_alarm():
    """A fall of the held-out reward counts from three standard errors on."""
    monitors = Monitors(MonitorsConfig(gold_drop=0.05))
    assert monitors.watch_gold(0.5, 0.60, noise=0.1) == []
    assert monitors.watch_gold(0.6, 0.40, noise=0.1) == []
    assert [alarm.name for alarm in monitors.watch_gold(0.6, 0.25, noise=0.1)] == ["gold_drop"]
    assert standard_error([0.0, 1.0, 0.0, 1.0]) == 0.25


BAD = {
    "kl": {"kl_per_token": 0.6},
    "length_correlation": {"length_correlation": 0.95},
    "repetition": {"repetition": 0.9},
    "copied": {"copied": 0.9},
    "duplicates": {"duplicates": 0.99},
    "truncated": {"truncated": 0.6},
    "clipped": {"clipped_low": 0.3, "clipped_high": 0.3},
    "mismatch_kl": {"mismatch_kl": 0.2},
    "zero_spread": {"zero_spread": 1.0},
    "entropy_share": {"entropy": 0.01},
    "mismatch_ess": {"mismatch_ess": 0.4},
    "explained_variance": {"explained_variance": -1.5},
}
HEALTHY = (
    {
        "reward": 0.5,
        "kl_per_token": 0.02,
        "length_correlation": -0.3,
        "repetition": 0.08,
        "copied": 0.1,
        "duplicates": 0.4,
    }
    | {
        "truncated": 0.01,
        "clipped_low": 0.0,
        "clipped_high": 0.01,
        "mismatch_kl": 0.0,
        "zero_spread": 0.3,
        "entropy": 0.5,
    }
    | {"mismatch_ess": 1.0, "explained_variance": 0.5}
)


def test_every_monitor_has_a_default_that_fires():
    """Each by its own figure and no other, with a message that says what it may mean; and a figure that the report knows."""
    assert BAD.keys() == {
        name for name in MonitorsConfig.model_fields if name not in {"on_alarm", "patience", "gold_drop"}
    }
    assert FIGURES.keys() == {*BAD, "gold_drop"}
    for name, figures in BAD.items():
        monitors = Monitors(MonitorsConfig())
        assert monitors.watch(HEALTHY) == []
        alarms = [alarm for _ in range(4) for alarm in monitors.watch({**HEALTHY, **figures})]
        assert [alarm.name for alarm in alarms] == [name]
        assert not monitors.is_calm


def test_the_manual_lists_every_monitor_with_its_default():
    """As the configuration has it."""
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (-?[\d.]+) \|", readme, flags=re.MULTILINE))
    defaults = MonitorsConfig()
    assert rows == {name: f"{getattr(defaults, name):g}" for name in [*BAD, "gold_drop"]}


def test_a_figure_at_its_bound_is_within():
    """What is called out of bounds is beyond it."""
    monitors = Monitors(MonitorsConfig(patience=1, kl=0.5, mismatch_ess=0.5))
    assert monitors.watch({"kl_per_token": 0.5, "mismatch_ess": 0.5}) == []
    assert monitors.is_calm


def test_the_state_goes_on_from_a_checkpoint():
    """Counts, the first entropy and the best gold are kept."""
    first = Monitors(MonitorsConfig(patience=2, kl=0.5))
    first.watch({"kl_per_token": 1.0, "entropy": 2.0})
    first.watch_gold(0.1, 0.9)
    second = Monitors(MonitorsConfig(patience=2, kl=0.5))
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert [alarm.name for alarm in second.watch({"kl_per_token": 1.0, "entropy": 0.01})] == ["kl"]
    assert [alarm.name for alarm in second.watch_gold(0.5, 0.5)] == ["gold_drop"]
    assert not second.is_calm


def test_repetition_is_the_share_of_runs_seen_before():
    """By hand: of 1,2,1,2,1,2 the runs of four are 1212, 2121, 1212."""
    assert repetition((1, 2, 1, 2, 1, 2)) == pytest.approx(1 / 3)
    assert repetition((1, 2, 3, 4, 5)) == 0
    assert repetition((1, 2)) == 0


def test_a_first_step_without_any_reward_can_be_gone_on_from():
    """What is no number is no first value: JSON has none for it."""
    monitors = Monitors(MonitorsConfig())
    monitors.watch({"reward": math.nan, "entropy": math.nan, "repetition": math.nan})
    monitors.restore(json.loads(orjson.dumps(monitors.state())))
    assert monitors.watch({"reward": 0.5, "entropy": 1.0, "repetition": 0.1}) == []
