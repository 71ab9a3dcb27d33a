"""The shipped examples improve what they are for, at a reduced size."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from statistics import fmean

import pytest

from rewardkit.registry import Registry
from rewardkit.train.launch import launch
from rewardkit.train.stages import STAGES, read_train_config, stage_of

EXAMPLES = Path(__file__).parents[2] / "examples/train"


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """The examples' folder with model and data, after sft.yaml with two thirds of its steps."""
    registry = Registry.load()
    if not {"math", "format.boxed"} <= registry.rewards.keys():
        pytest.skip("the plugins math and format are not installed")
    folder = tmp_path_factory.mktemp("examples")
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", EXAMPLES / "build.py")
    build = importlib.util.module_from_spec(spec)
    sys.modules["rewardkit_example_build"] = build
    spec.loader.exec_module(build)
    build.write_data(folder / "work")
    build.write_model(folder / "work/base")
    return folder, run(folder, "sft", registry, steps="65"), registry


def run(folder, name, registry, **overrides):
    """Train as an example says; the figures of its training steps."""
    config = folder / f"{name}.yaml"
    config.write_text((EXAMPLES / f"{name}.yaml").read_text())
    file = read_train_config(config, registry, overrides)
    launch(file, STAGES[stage_of(file.document)].runner())
    lines = [json.loads(line) for line in (file.config.output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_sft_learns_the_format(warmed):
    """The loss falls to a fraction."""
    figures = warmed[1]
    assert figures[-1]["loss"] < 0.1 * figures[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("grpo_math", {"steps": "12", "data.eval": "null"}),
        ("ppo", {"steps": "10", "data.eval": "null", "critic.warmup_steps": "1", "rollout.prompts_per_step": "128"}),
    ],
)
def test_rl_raises_the_sampled_reward(warmed, name, changes):
    """The mean of the last four steps is above that of the first four."""
    folder, _, registry = warmed
    figures = run(folder, name, registry, **changes)
    rewards = [line["reward"] for line in figures]
    assert fmean(rewards[-4:]) > fmean(rewards[:4])
    assert all(line["mismatch"] < 1e-4 for line in figures)
