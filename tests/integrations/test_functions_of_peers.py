"""Reward functions that come with other libraries, used in a reward file, give what calling them gives."""

import json
from pathlib import Path

import pytest

from rewardkit import Rollout, load_reward
from rewardkit.errors import ConfigError

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "rollouts.jsonl"
ROWS = [json.loads(line) for line in DEMO.read_text().splitlines()][:80]


def scored(tmp_path: Path, use: str, options: str) -> list[float | None]:
    """Score the demo's rows by one function."""
    (tmp_path / "reward.yaml").write_text(f"version: 1\ncomponents:\n  c: {{use: '{use}', with: {options}}}\n")
    rollouts = [Rollout(row["prompt"], row["completion"], {**row, "solution": f"${row['answer']}$"}) for row in ROWS]
    with load_reward(tmp_path / "reward.yaml", workers=2) as reward:
        return [item.reward for item in reward.score(rollouts)]


def test_trl_think_format(tmp_path: Path) -> None:
    """TRL's think_format_reward."""
    pytest.importorskip("trl", reason="needs TRL, of the extra peers")
    from trl.rewards import think_format_reward

    wanted = think_format_reward([[{"role": "assistant", "content": row["completion"]}] for row in ROWS])
    assert scored(tmp_path, "trl.rewards.format_rewards:think_format_reward", "{chat: true}") == wanted


def test_trl_accuracy(tmp_path: Path) -> None:
    """TRL's accuracy_reward."""
    pytest.importorskip("trl", reason="needs TRL, of the extra peers")
    pytest.importorskip("math_verify", reason="needs math-verify, of the extra peers")
    from trl.rewards import accuracy_reward

    completions = [[{"role": "assistant", "content": row["completion"]}] for row in ROWS]
    wanted = accuracy_reward(completions, solution=[f"${row['answer']}$" for row in ROWS])
    assert scored(tmp_path, "trl.rewards.accuracy_rewards:accuracy_reward", "{chat: true}") == wanted
    assert set(wanted) == {0.0, 1.0}


@pytest.mark.parametrize("module", ["math_reward", "gsm8k"])
def test_verl(tmp_path: Path, module: str) -> None:
    """The scores that come with verl."""
    pytest.importorskip("verl", reason="needs verl, which has an environment of its own: make test-integrations")
    import importlib

    name = f"verl.utils.reward_score.{module}"
    function = importlib.import_module(name).compute_score
    wanted = [float(function(row["completion"], row["answer"])) for row in ROWS]
    assert scored(tmp_path, f"{name}:compute_score", "{reference: answer}") == wanted


def test_functions_of_tokens_are_refused(tmp_path: Path) -> None:
    """Rollouts hold no token numbers, so a function that reads them gets no empty list of them, which would be a score."""
    (tmp_path / "f.py").write_text(
        "def short(completion_ids, **kwargs):\n    return [-len(ids) for ids in completion_ids]\n"
    )
    (tmp_path / "reward.yaml").write_text("version: 1\ncomponents:\n  c: {use: './f.py:short', with: {style: trl}}\n")
    with pytest.raises(ConfigError, match="reads completion_ids, and rollouts hold texts"):
        load_reward(tmp_path / "reward.yaml")
