"""``rewardkit audit --policy`` trains against the audited reward and shows what the policy found."""

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rewardkit.cli import cli
from rewardkit.errors import ConfigError, UsageError

pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")
pytest.importorskip("transformers", reason="training needs transformers: pip install 'rewardkit[train]'")

BUILD = Path(__file__).parents[2] / "examples" / "train" / "build.py"
REWARD = "version: 1\ncomponents: {digits: {use: format.regex, with: {pattern: '(?s).*[0-9].*'}}}\n"
CONFIG = """
version: 1
stage: grpo
output: own
model: {path: ./base}
data: {train: rows.jsonl}
reward: {components: {nothing: {use: format.regex, with: {pattern: 'never'}}}}
steps: 50
rollout: {prompts_per_step: 2, group_size: 4, max_new_tokens: 6}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a tiny model, rows, a reward and a configuration whose own reward is another one."""
    spec = importlib.util.spec_from_file_location("build_of_the_audit", BUILD)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_model(tmp_path / "base", hidden=16, layers=1)
    rows = [
        {"prompt": f"{number}+1=?", "completion": text, "answer": str(number + 1)}
        for number in (1, 2, 3)
        for text in ("it is 7", "no idea")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "reward.yaml").write_text(REWARD)
    (tmp_path / "grpo.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments):
    """Call the command; errors are raised."""
    command = ["audit", "reward.yaml", "--data", "rows.jsonl", "--policy", "grpo.yaml", *arguments]
    return CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)


def test_the_policy_is_trained_on_the_audited_reward(folder):
    """It takes the steps that were asked for, in a folder of its own, and shows forms with rewards and right answers."""
    found = json.loads(invoke("--policy-steps", "2", "--policy-out", "kept", "--json").stdout)["policy"]
    assert found["steps"] == 2
    assert found["clusters"][0]["right"] is not None
    assert max(cluster["mean_reward"] for cluster in found["clusters"]) > 0, "its own reward gives 0 to everything"
    assert (folder / "kept" / "metrics.jsonl").is_file()
    assert not (folder / "own").exists()


def test_a_wrong_configuration_is_refused_before_the_attack(folder):
    """Another stage is refused, and a misspelt key, before anything is scored."""
    (folder / "grpo.yaml").write_text(CONFIG.replace("steps:", "stepz:"))
    with pytest.raises(ConfigError, match="stepz"):
        invoke()
    (folder / "grpo.yaml").write_text(
        "version: 1\nstage: sft\noutput: own\nmodel: {path: ./base}\ndata: {train: rows.jsonl}\nsteps: 1\n"
    )
    with pytest.raises(UsageError, match="--policy trains with stage: grpo, not sft"):
        invoke()
