"""The preference examples improve their metric at a reduced size."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

EXAMPLES = Path(__file__).parents[3] / "examples/train"


def run(folder, name, **overrides):
    """Run an example in a copy of its folder, and return the run's folder and held-out metrics."""
    config = read_train_config(
        folder / f"{name}.yaml", Registry(), {key.replace("__", "."): str(value) for key, value in overrides.items()}
    )
    launch(config, STAGES[name].runner())
    lines = map(json.loads, (config.config.output / "metrics.jsonl").read_text().splitlines())
    return config.config.output, [line for line in lines if line["kind"] == "eval"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, work):
    """Return the examples with a small model after SFT."""
    build = sys.modules["rewardkit_example_build"]
    folder = tmp_path_factory.mktemp("examples")
    for file in EXAMPLES.glob("*.yaml"):
        shutil.copy(file, folder)
    build.write_data(folder / "work")
    build.write_model(folder / "work/base", hidden=64, layers=2)
    run(folder, "sft", steps=80, threads=1)
    return folder


def test_the_pairs_differ_in_one_digit(folder):
    """Preferred and rejected answers have the same length."""
    rows = [json.loads(line) for line in (folder / "work/pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 2000
    for row in rows:
        assert len(row["chosen"]) == len(row["rejected"])
        assert sum(a != b for a, b in zip(row["chosen"], row["rejected"], strict=True)) == 1


def test_dpo(folder):
    """The policy prefers right answers that it was not trained on."""
    _, metrics = run(folder, "dpo", steps=12, evaluate__every=0, threads=1)
    assert metrics[0]["accuracy"] == pytest.approx(0.5, abs=0.1)
    assert metrics[-1]["margin"] > 0
    assert metrics[-1]["accuracy_low"] > 0.5


def test_reward_model(folder):
    """The reward model ranks right answers better than chance and than length."""
    output, metrics = run(folder, "reward_model", steps=80, evaluate__every=0, threads=1)
    assert metrics[-1]["accuracy_low"] > 0.5
    assert metrics[-1]["always_longer"] == 0.5
    assert (output / "final/model.safetensors").is_file()
