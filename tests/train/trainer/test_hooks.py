"""Plugins observe training steps."""

from __future__ import annotations

import json

import pytest

from rewardkit import Rollout, hookimpl, reward
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 3
rollout: {{prompts_per_step: 2, group_size: 3, max_new_tokens: 4}}
"""
SFT = """
version: 1
stage: sft
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/sft.jsonl}}
steps: 3
batch_size: 2
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Count the digits."""
    return float(sum(map(str.isdigit, rollout.completion_text)))


class Watcher:
    """Records what it is called with, and fails if asked to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[tuple] = []

    @hookimpl
    def training_step_finished(self, step, metrics, rollouts):
        """Record the call."""
        self.seen.append((step, dict(metrics), list(rollouts)))
        if self.fails:
            raise RuntimeError("the dashboard is down")


def train(tmp_path, work, text, *watchers):
    """Run a stage with observing plugins, and return its training metrics."""
    registry = Registry()
    for plugin in (digits, *watchers):
        registry.register(plugin)
    (tmp_path / "config.yaml").write_text(text.format(output=tmp_path / "out", work=work))
    file = read_train_config(tmp_path / "config.yaml", registry)
    launch(file, STAGES[file.config.stage].runner())
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize(("text", "rollouts"), [(GRPO, 6), (SFT, 0)], ids=["grpo", "sft"])
def test_a_plugin_watches_every_step(tmp_path, work, text, rollouts):
    """A plugin gets the metrics as they are logged, and the scored rollouts if there are any."""
    watcher = Watcher()
    written = train(tmp_path, work, text, watcher)
    assert [step for step, _, _ in watcher.seen] == [1, 2, 3]
    for line, (_, metrics, scored) in zip(written, watcher.seen, strict=True):
        assert {"step": line["step"], "kind": "train", **metrics} == pytest.approx(line)
        assert len(scored) == rollouts
        assert all(item.reward == item.outcomes["digits"].value for item in scored)


def test_a_plugin_that_fails_at_it_is_named_once(tmp_path, work, capsys):
    """The run continues, other plugins are called, and the failing plugin is called again."""
    broken, fine = Watcher(fails=True), Watcher()
    assert len(train(tmp_path, work, SFT, broken, fine)) == 3
    assert len(broken.seen) == len(fine.seen) == 3
    errors = capsys.readouterr().err
    assert errors.count("the dashboard is down") == 1
    assert (
        "training_step_finished of plugin 'Watcher' (this program 0) raised RuntimeError: the dashboard is down"
        in errors
    )
    assert (tmp_path / "out/final").is_dir()
