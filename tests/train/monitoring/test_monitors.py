"""Monitors raise one alarm when a metric stays out of its bounds, and when a reward is exploited."""

from __future__ import annotations

import json
import math
import random
import re
from statistics import fmean

import orjson
import pytest

from rewardkit import Monitor, Rollout, hookimpl, reward
from rewardkit.errors import ConfigError, PluginClashError
from rewardkit.registry import Registry
from rewardkit.train.config import MonitorsConfig
from rewardkit.train.config.monitors import MONITORS, RENAMED, all_monitors
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.monitoring import monitors as monitors_module
from rewardkit.train.monitoring.monitors import FALSE_ALARMS, LEAST_NOISE, Monitors, noise, standard_error
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
monitors:
  {{on_alarm: {on_alarm}, prompt_independence: null, frac_reward_zero_std: null, truncated: null, repetition: null,
    length_correlation: null}}
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward any digits: the reward that is trained on."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


@reward("variety")
def variety(rollout: Rollout) -> float:
    """Reward many different characters that are not digits: the reward that was intended."""
    return len(set(rollout.completion_text) - set("0123456789")) / 12


def run(work, folder, on_alarm, **changes):
    """Train on a reward that can be exploited."""
    folder.mkdir(exist_ok=True)
    registry = Registry()
    registry.register(digits)
    registry.register(variety)
    config = folder / "grpo.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, on_alarm=on_alarm))
    changes = {key.replace("__", "."): str(value) for key, value in changes.items()}
    launch(read_train_config(config, registry, changes), train_grpo)


def lines(file):
    """Return the records of a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_hacking_raises_the_alarm(work, tmp_path):
    """The alarm is raised once when the trained reward rises and the held-out one falls, and the run continues."""
    run(work, tmp_path, "warn")
    evals = [line for line in lines(tmp_path / "out/metrics.jsonl") if line["kind"] == "eval"]
    assert evals[-1]["reward"] > evals[0]["reward"]
    assert evals[-1]["gold"] < evals[0]["gold"] - 0.05
    alarms = lines(tmp_path / "out/alarms.jsonl")
    assert [alarm["name"] for alarm in alarms] == ["gold_drop"]
    assert "likely exploiting the reward" in alarms[0]["message"]
    assert (tmp_path / "out/final").is_dir()


def test_a_run_can_stop_at_an_alarm(work, tmp_path):
    """``on_alarm: stop`` saves a checkpoint and ends the run."""
    with pytest.raises(AlarmError, match="stopped after step"):
        run(work, tmp_path, "stop")
    assert not (tmp_path / "out/final").exists()
    assert list((tmp_path / "out/checkpoints").iterdir())


def test_a_rollback_restores_the_last_good_checkpoint(work, tmp_path):
    """Weights, optimiser and position in the data are bit for bit those of the last good checkpoint; later ones are removed."""
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

    # A run of that many steps ends with the same weights.
    run(work, tmp_path / "short", "rollback", steps=reached, **changes)
    final = load_file(tmp_path / "out/final/model.safetensors")
    short = load_file(tmp_path / "short/out/final/model.safetensors")
    assert all(torch.equal(value, short[name]) for name, value in final.items())
    before, after = (
        load_file(next(folder.glob("*.safetensors")))
        for folder in (last, tmp_path / f"short/out/checkpoints/step-{reached:06d}")
    )
    assert any("/moment/" in name for name in before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    alarms = lines(tmp_path / "out/alarms.jsonl")
    assert alarms[-1]["step"] == left
    assert (tmp_path / "out/best").is_dir()  # the best model from before the alarm is kept


def test_a_rollback_removes_a_best_model_of_later_steps(work, tmp_path):
    """A model that was best by an exploited reward is removed with the checkpoints."""
    changes = {"evaluate__gold": "null", "evaluate__every": 1, "monitors__length_correlation": 1e-9}
    with pytest.raises(AlarmError, match="rolled back from step"):
        run(work, tmp_path, "rollback", monitors__patience=1, **changes)
    evals = [line["reward"] for line in lines(tmp_path / "out/metrics.jsonl") if line["kind"] == "eval"]
    assert evals[-1] > max(evals[:-1])
    assert not (tmp_path / "out/best").exists()


def test_an_alarm_needs_patience_and_is_raised_once():
    """The alarm needs three steps in a row; a step within bounds restarts the count."""
    monitors = Monitors(MonitorsConfig(patience=3, kl=0.5))
    seen = [len(monitors.watch({"kl_per_token": value})) for value in (1, 1, 0.1, 1, 1, 1, 1, 1)]
    assert seen == [0, 0, 0, 0, 0, 1, 0, 0]


def test_a_bound_of_null_is_no_bound():
    """A bound of null switches the monitor off."""
    monitors = Monitors(MonitorsConfig(patience=1, kl=None))
    assert monitors.watch({"kl_per_token": 100.0}) == []


def test_entropy_is_compared_with_the_first_step():
    """Entropy raises an alarm when it falls, not when it is low from the start."""
    monitors = Monitors(MonitorsConfig(patience=1, entropy_share=0.1))
    assert monitors.watch({"entropy": 0.0}) == [], "it is not measured during the critic's warm-up"
    assert monitors.watch({"entropy": 0.02}) == []
    assert monitors.watch({"entropy": 0.01}) == []
    assert [alarm.name for alarm in monitors.watch({"entropy": 0.001})] == ["entropy_share"]


@pytest.mark.parametrize("name", ["repetition", "copied"])
def test_a_high_first_value_is_no_alarm(name):
    """Some tasks have repetition by nature; only a rise to more than half of the way to 1 is an alarm."""
    monitors = Monitors(MonitorsConfig(patience=1, **{name: 0.5}))
    assert monitors.watch({name: 0.6}) == []
    assert monitors.watch({name: 0.79}) == []
    [alarm] = monitors.watch({name: 0.81})
    assert alarm.name == name
    assert "0.81, up from 0.6 in the first step" in alarm.message


def test_a_task_that_is_solved_is_no_alarm():
    """Groups without spread are an alarm only while the reward is no higher than in the first step."""
    monitors = Monitors(MonitorsConfig(patience=1))
    assert monitors.watch({"reward": 0.3, "frac_reward_zero_std": 0.2}) == []
    assert monitors.watch({"reward": 0.99, "frac_reward_zero_std": 0.99}) == []
    assert [alarm.name for alarm in monitors.watch({"reward": 0.3, "frac_reward_zero_std": 0.99})] == [
        "frac_reward_zero_std"
    ]


def test_duplicates_are_an_alarm_only_if_the_reward_did_not_rise():
    """A policy that has learned its task gives the same answer again and again, too."""
    monitors = Monitors(MonitorsConfig(patience=1))
    assert monitors.watch({"reward": 0.3, "duplicates": 0.7}) == []
    assert monitors.watch({"reward": 0.9, "duplicates": 1.0}) == []
    assert monitors.watch({"reward": 0.3, "duplicates": 0.95}) == []
    [alarm] = monitors.watch({"reward": 0.3, "duplicates": 0.98})
    assert "duplicates is 0.98, up from 0.7 in the first step" in alarm.message


def test_a_reward_that_is_always_the_same_is_an_alarm():
    """A constant reward raises the alarm from the first step on: there is no training signal."""
    monitors = Monitors(MonitorsConfig(patience=2))
    seen = [len(monitors.watch({"reward": 1.0, "frac_reward_zero_std": 1.0})) for _ in range(3)]
    assert seen == [0, 1, 0]


def test_chance_in_a_small_evaluation_is_no_alarm():
    """A fall of the held-out reward that the prompts' changes explain is ignored."""
    monitors = Monitors(MonitorsConfig(gold_drop=0.05), evaluations=20)
    assert monitors.noise == pytest.approx(2.576, abs=1e-3)
    assert monitors.watch_gold(0.5, [1.0] * 6 + [0.0] * 4) == []
    # Three prompts of ten lost: 0.3 is 2.1 standard errors of 0.145. Six lost are 3.9 of 0.155.
    assert monitors.watch_gold(0.6, [1.0] * 3 + [0.0] * 7) == []
    assert [alarm.name for alarm in monitors.watch_gold(0.6, [0.0] * 10)] == ["gold_drop"]
    assert standard_error([0.0, 1.0, 0.0, 1.0]) == 0.25


def test_a_small_fall_on_many_prompts_is_told_from_chance():
    """Of 100 prompts, 10 are lost and none is won: by chance this would be 3.3 standard errors away."""
    monitors = Monitors(MonitorsConfig(gold_drop=0.05), evaluations=20)
    assert monitors.watch_gold(0.5, [1.0] * 60 + [0.0] * 40) == []
    assert [alarm.name for alarm in monitors.watch_gold(0.6, [1.0] * 50 + [0.0] * 50)] == ["gold_drop"]
    lost_and_won = [1.0] * 35 + [0.0] * 25 + [1.0] * 15 + [0.0] * 25
    again = Monitors(MonitorsConfig(gold_drop=0.05), evaluations=20)
    assert again.watch_gold(0.5, [1.0] * 60 + [0.0] * 40) == []
    assert again.watch_gold(0.6, lost_and_won) == []


def test_more_evaluations_need_a_larger_difference():
    """Eight prompts of 100 lost are 2.9 standard errors: no chance among 14 evaluations, and one among 100."""
    for evaluations, count in ((14, 1), (100, 0)):
        monitors = Monitors(MonitorsConfig(gold_drop=0.05), evaluations=evaluations)
        assert monitors.watch_gold(0.5, [1.0] * 100) == []
        assert len(monitors.watch_gold(0.5, [0.0] * 8 + [1.0] * 92)) == count
    assert noise(1) == noise(0) == LEAST_NOISE


def test_chance_raises_few_alarms_in_a_run_with_a_sound_reward():
    """Nothing changes but the luck of the answers, and the reward errs in one of five: alarms are no more frequent than said."""
    draw = random.Random(0)  # noqa: S311 - no secrets here
    runs, prompts, evaluations = 60, 100, 14
    alarms = 0
    for _ in range(runs):
        monitors = Monitors(MonitorsConfig(), evaluations=evaluations)
        skill = [draw.random() for _ in range(prompts)]
        for _ in range(1 + evaluations):
            golds = [float(draw.random() < chance) for chance in skill]
            reward = fmean(abs(gold - (draw.random() < 0.2)) for gold in golds)
            alarms += len(monitors.watch_gold(reward, golds))
    assert alarms <= FALSE_ALARMS * runs


def test_a_run_tells_the_monitors_how_often_it_evaluates(work, tmp_path, monkeypatch):
    """Four steps with an evaluation after every second are two comparisons with the first one."""
    seen = []
    monkeypatch.setattr(monitors_module, "noise", lambda evaluations: seen.append(evaluations) or LEAST_NOISE)
    run(work, tmp_path, "warn", steps=4, evaluate__every=2)
    assert seen == [2]


@pytest.mark.parametrize(("reward", "names"), [(0.4, []), (0.5, ["gold_drop"]), (0.6, ["gold_drop"])])
def test_a_held_out_reward_that_falls_with_the_trained_one_is_no_hacking(reward, names):
    """It is where the trained reward stays, such as at its highest value, or rises."""
    monitors = Monitors(MonitorsConfig(gold_drop=0.05))
    assert monitors.watch_gold(0.5, [1.0] * 20) == []
    assert [alarm.name for alarm in monitors.watch_gold(reward, [0.0] * 20)] == names


def test_unscored_prompts_are_left_out_of_the_comparison():
    """A prompt counts towards chance where both evaluations scored it."""
    monitors = Monitors(MonitorsConfig(gold_drop=0.05))
    assert monitors.watch_gold(0.5, [1.0, None, *[1.0] * 18]) == []
    assert [alarm.name for alarm in monitors.watch_gold(0.6, [None, 0.0, *[0.0] * 18])] == ["gold_drop"]


BAD = {
    "kl": {"kl_per_token": 0.6},
    "length_correlation": {"length_correlation": 0.95},
    "repetition": {"repetition": 0.9},
    "copied": {"copied": 0.9},
    "duplicates": {"duplicates": 0.99},
    "prompt_independence": {"prompt_independence": 0.95},
    "truncated": {"truncated": 0.6},
    "clipped": {"clipped_low": 0.3, "clipped_high": 0.3},
    "sampling_kl": {"sampling_kl": 0.2},
    "frac_reward_zero_std": {"frac_reward_zero_std": 1.0},
    "entropy_share": {"entropy": 0.01},
    "sampling_ess": {"sampling_ess": 0.4},
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
        "sampling_kl": 0.0,
        "frac_reward_zero_std": 0.3,
        "entropy": 0.5,
    }
    | {"sampling_ess": 1.0, "explained_variance": 0.5, "prompt_independence": 0.2}
)


def test_every_monitor_has_a_default_that_fires():
    """Each monitor raises an alarm by its own metric and no other."""
    assert {*BAD, "gold_drop"} == {monitor.name for monitor in MONITORS}
    for name, metrics in BAD.items():
        monitors = Monitors(MonitorsConfig())
        assert monitors.watch(HEALTHY) == []
        alarms = [alarm for _ in range(4) for alarm in monitors.watch({**HEALTHY, **metrics})]
        assert [alarm.name for alarm in alarms] == [name]
        assert not monitors.is_calm


def test_a_monitor_is_one_row():
    """The configuration, its table of keys and the monitors follow from the row alone."""
    from rewardkit.train.config import GrpoConfig
    from rewardkit.train.config.reference import keys_of

    keys = {key.name: key for key in keys_of(GrpoConfig)}
    for monitor in MONITORS:
        key = keys[f"monitors.{monitor.name}"]
        assert (key.default, key.meaning) == (str(monitor.bound), monitor.description)


class Plugin:
    """Offers a monitor of the share of answers that are cut off, with a stricter bound."""

    def __init__(self, name="short_answers"):
        self.name = name

    @hookimpl
    def register_monitors(self):
        """Offer the monitor."""
        return [Monitor(self.name, "length", 3.0, "Smallest length.", "answers are too short", is_upper=False)]


def with_plugin(name="short_answers"):
    """Return a registry with the reward and the plugin."""
    registry = Registry()
    registry.register(digits)
    registry.register(variety)
    registry.register(Plugin(name))
    return registry


def write_config(work, folder, monitors):
    """Write a configuration with this section of monitors."""
    config = folder / "grpo.yaml"
    text = CONFIG.format(output=folder / "out", work=work, on_alarm="warn")
    config.write_text(text[: text.index("monitors:")] + f"monitors: {monitors}\n")
    return config


def test_a_plugin_adds_a_monitor(work, tmp_path):
    """A monitor of a plugin raises its alarm in a run, with the bound of the configuration."""
    config = write_config(work, tmp_path, "{patience: 1, plugins: {short_answers: 1000}, frac_reward_zero_std: null}")
    file = read_train_config(config, with_plugin(), {"steps": "1", "evaluate.every": "0", "evaluate.limit": "2"})
    launch(file, train_grpo)
    [alarm] = [line for line in lines(tmp_path / "out/alarms.jsonl") if line["name"] == "short_answers"]
    assert "below 1000" in alarm["message"]
    assert "answers are too short" in alarm["message"]
    assert alarm["metrics"] == ["length"]


def test_a_plugins_monitor_has_a_default_and_can_be_switched_off():
    """Its default bound applies if the configuration sets none; null switches it off."""
    monitors = all_monitors(with_plugin())
    for bounds, count in (({}, 1), ({"short_answers": None}, 0), ({"short_answers": 1.0}, 0)):
        found = Monitors(MonitorsConfig(patience=1, plugins=bounds), monitors).watch({"length": 2.0})
        assert len(found) == count


def test_unknown_and_former_names_of_monitors_are_refused(work, tmp_path):
    """A misspelled name gets a hint, and a former name the new one."""
    with pytest.raises(ConfigError, match=r"no plugin offers a monitor 'short_anwsers'; did you mean 'short_answers'"):
        read_train_config(write_config(work, tmp_path, "{plugins: {short_anwsers: 2}}"), with_plugin())
    for old, new in RENAMED.items():
        with pytest.raises(ConfigError, match=rf"grpo\.yaml:\d+:\d+: .*monitors\.{old} is now called monitors\.{new}"):
            read_train_config(write_config(work, tmp_path, f"{{{old}: 0.5}}"), with_plugin())
    with pytest.raises(PluginClashError, match="'kl', which is the name of a built-in one"):
        all_monitors(with_plugin("kl"))


def test_a_metric_at_its_bound_is_within_bounds():
    """A metric is out of bounds only beyond the bound."""
    monitors = Monitors(MonitorsConfig(patience=1, kl=0.5, sampling_ess=0.5))
    assert monitors.watch({"kl_per_token": 0.5, "sampling_ess": 0.5}) == []
    assert monitors.is_calm


def test_a_checkpoint_keeps_the_state():
    """Counts, first values and the best held-out reward survive a checkpoint."""
    first = Monitors(MonitorsConfig(patience=2, kl=0.5))
    first.watch({"kl_per_token": 1.0, "entropy": 2.0})
    first.watch_gold(0.1, [0.9, 0.9, None])
    second = Monitors(MonitorsConfig(patience=2, kl=0.5))
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert [alarm.name for alarm in second.watch({"kl_per_token": 1.0, "entropy": 0.01})] == ["kl"]
    assert [alarm.name for alarm in second.watch_gold(0.5, [0.5, 0.5, None])] == ["gold_drop"]
    assert not second.is_calm


def test_repetition_is_the_share_of_repeated_4_grams():
    """The 4-grams of 1,2,1,2,1,2 are 1212, 2121, 1212, so one of three is repeated."""
    assert repetition((1, 2, 1, 2, 1, 2)) == pytest.approx(1 / 3)
    assert repetition((1, 2, 3, 4, 5)) == 0
    assert repetition((1, 2)) == 0


def test_a_first_step_without_a_reward_can_be_resumed():
    """NaN is not taken as a first value: JSON has no NaN."""
    monitors = Monitors(MonitorsConfig())
    monitors.watch({"reward": math.nan, "entropy": math.nan, "repetition": math.nan})
    monitors.restore(json.loads(orjson.dumps(monitors.state())))
    assert monitors.watch({"reward": 0.5, "entropy": 1.0, "repetition": 0.1}) == []
