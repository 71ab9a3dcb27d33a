"""The shipped examples improve their metric at a reduced size."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from statistics import fmean

import pytest

from rewardkit import hookimpl
from rewardkit.errors import TooManyUnscoredError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config, stage_of
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

EXAMPLES = Path(__file__).parents[3] / "examples/train"


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """Return the examples' folder with model and data after most steps of sft.yaml."""
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
    return folder, run(folder, "sft", registry, steps="90"), registry


def run(folder, name, registry, **overrides):
    """Train an example, and return its training metrics."""
    config = folder / f"{name}.yaml"
    config.write_text((EXAMPLES / f"{name}.yaml").read_text())
    file = read_train_config(config, registry, overrides)
    launch(file, STAGES[stage_of(file.document)].runner())
    lines = [json.loads(line) for line in (file.config.output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_sft_learns_the_format(warmed):
    """The loss falls to a fraction."""
    metrics = warmed[1]
    assert metrics[-1]["loss"] < 0.1 * metrics[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("grpo_math", {"steps": "12", "data.eval": "null"}),
        ("ppo", {"steps": "10", "data.eval": "null", "critic.warmup_steps": "1", "rollout.prompts_per_step": "128"}),
    ],
)
def test_rl_raises_the_sampled_reward(warmed, name, changes):
    """The mean reward of the last four steps is above that of the first four."""
    folder, _, registry = warmed
    metrics = run(folder, name, registry, **changes)
    rewards = [line["reward"] for line in metrics]
    assert fmean(rewards[-4:]) > fmean(rewards[:4])
    assert all(line["sampling_logp_difference"] < 1e-4 for line in metrics)
    assert not (folder / "work" / name / "alarms.jsonl").exists(), "a healthy run raises no alarm"


@pytest.fixture(scope="module")
def coder(tmp_path_factory):
    """Return the examples' folder with a small model after sft_code.yaml, a few functions, and the plugins."""
    sandbox = pytest.importorskip("rewardkit_sandbox", reason="rewardkit-sandbox is not installed")
    registry = Registry.load()
    if "code.tests" not in registry.rewards:
        pytest.skip("the plugin code is not installed")
    try:
        sandbox.open_sandbox(slots=1).close()
    except sandbox.Unavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("code")
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", EXAMPLES / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_data(folder / "work")
    build.write_model(folder / "work/base", hidden=64, layers=2)
    train = folder / "work/code_train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:16]))
    run(folder, "sft_code", registry, steps="120", threads="1")
    return folder


FEW = {
    "data.eval": "null",
    "rollout.prompts_per_step": "16",
    "optimizer.lr": "5.0e-4",
    "optimizer.schedule": "constant",
    "threads": "1",
}


@pytest.mark.slow
def test_tests_in_a_sandbox_teach_functions(coder):
    """The final model passes more tests than the first, and each step logs the time spent on waiting for scores."""
    metrics = run(coder, "grpo_code", Registry.load(), steps="12", **FEW)
    rewards = [line["reward"] for line in metrics]
    assert fmean(rewards[-4:]) > fmean(rewards[:4]) + 0.05
    assert all(line["unscored"] == 0 for line in metrics)
    assert all(line["seconds_await_scores"] >= 0 and line["scoring_seconds"] > 0 for line in metrics)


@pytest.mark.slow
def test_a_sandbox_that_dies_stops_the_run(coder):
    """A failing sandbox stops the run at its step as an infrastructure failure, and earlier checkpoints are intact."""
    registry = Registry.load()
    registry.register(Saboteur())
    with pytest.raises(TooManyUnscoredError, match=r"step 2: \d+ of 32 rollouts could not be scored \(\d+ infra\)"):
        run(
            coder,
            "grpo_code",
            registry,
            steps="3",
            output=str(coder / "dies"),
            **FEW | {"rollout.prompts_per_step": "4"},
        )
    lines = [json.loads(line) for line in (coder / "dies/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1]
    assert lines[0]["unscored"] == 0


class Saboteur:
    """Closes the sandbox after the first step."""

    @hookimpl
    def training_step_finished(self):
        """Close every sandbox that rewards have open."""
        from rewardkit_code import sandboxes

        for shared in sandboxes._OPEN.values():
            shared.get().close()
