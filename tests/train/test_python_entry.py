"""``rewardkit.train.train`` and ``evaluate`` do from Python what the commands do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rewardkit import Rollout, reward
from rewardkit.errors import ConfigError, DataError, UsageError
from rewardkit.registry import Registry
from rewardkit.train import evaluate, train


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


@pytest.fixture
def registry():
    """Return a registry with the reward."""
    found = Registry()
    found.register(digits)
    return found


def grpo(work, folder):
    """Return a configuration of two steps."""
    return {
        "version": 1,
        "stage": "grpo",
        "output": folder / "out",
        "model": {"path": f"{work}/base"},
        "data": {"train": f"{work}/train.jsonl", "eval": f"{work}/heldout.jsonl"},
        "reward": {"components": {"digits": {"use": "digits"}}},
        "steps": 2,
        "rollout": {"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 4},
        "evaluate": {"limit": 2, "correct": "digits > 0.5"},
        "monitors": {"truncated": None},
    }


def test_a_mapping_is_trained_and_resumed(work, tmp_path, registry):
    """A configuration given as a mapping is trained; a second call finds the run finished."""
    run = train(grpo(work, tmp_path), registry=registry)
    assert run.model == tmp_path / "out/final"
    assert (run.model / "model.safetensors").is_file()
    assert [record["step"] for record in run.metrics if record["kind"] == "train"] == [1, 2]
    assert run.alarms == []
    assert train(grpo(work, tmp_path), registry=registry) == run


def test_overrides_replace_values(work, tmp_path, registry):
    """An override is a YAML value by dotted path."""
    run = train(grpo(work, tmp_path), {"steps": "1"}, registry=registry)
    assert max(record["step"] for record in run.metrics) == 1


def test_two_models_are_compared(work, tmp_path, registry):
    """The result has the metrics, and the report names reward and date."""
    base = work / "base"
    found = evaluate(grpo(work, tmp_path), [base, str(base)], samples=2, out=tmp_path / "eval", registry=registry)
    assert found.changes[0].gain[0].value == 0.0
    assert set(found.labelled[0]) >= {"greedy accuracy", "pass@1", "pass@2"}
    page = found.page.read_text()
    assert "digits" in page
    assert "digits &gt; 0.5" in page
    assert (tmp_path / "eval/eval.json").is_file()


def test_mistakes_are_errors(work, tmp_path, registry):
    """A wrong key is named with its place, as is a missing file; three models can't be compared."""
    with pytest.raises(ConfigError, match=r"the configuration:\d+:\d+: unknown key 'step'"):
        train({**grpo(work, tmp_path), "step": 1}, registry=registry)
    with pytest.raises((ConfigError, DataError), match="there is no file"):
        train({**grpo(work, tmp_path), "data": {"train": "nowhere.jsonl", "eval": "nowhere.jsonl"}}, registry=registry)
    with pytest.raises(UsageError, match="one model or two"):
        evaluate(grpo(work, tmp_path), [None] * 3, registry=registry)


def test_importing_the_package_loads_no_torch():
    """The functions are imported without torch, transformers and pydantic."""
    code = "import sys, rewardkit.train; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pydantic')))"
    subprocess.run([sys.executable, "-c", code], check=True)
