"""``rewardkit schema``."""

import json
from pathlib import Path

import jsonschema
import pytest

from rewardkit import Registry
from rewardkit.cli import run, schema
from rewardkit.config import read_yaml, reward_schema
from rewardkit.train.config.stages import STAGES

EXAMPLES = Path(__file__).parents[2] / "examples/train"


def test_it_prints_the_schema_of_what_is_installed(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """The output is the schema as JSON, a plugin of this environment included, and works in any validator."""
    install_plugin("""
        from rewardkit import reward

        @reward("acme.pal")
        def palindrome(rollout, *, strict: bool = False) -> float:
            return 1.0
    """)
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(reward_schema(Registry.load())))
    validator = jsonschema.Draft202012Validator(printed)
    good = {"version": 1, "components": {"a": {"use": "acme.pal", "with": {"strict": True}}}}
    assert validator.is_valid(good)
    good["components"]["a"]["with"]["strict"] = "yes"
    assert not validator.is_valid(good)


@pytest.mark.parametrize("stage", ["sft", "reward_model", "dpo", "grpo", "ppo"])
def test_the_schema_of_a_stage_takes_the_shipped_examples(stage: str, capsys: pytest.CaptureFixture) -> None:
    """And refuses a key that there is not."""
    assert run(["schema", stage]) == 0
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    files = [read_yaml(file).data for file in sorted(EXAMPLES.glob("*.yaml"))]
    own = [data for data in files if data["stage"] == stage]
    assert own
    assert all(validator.is_valid(data) for data in own)
    assert not validator.is_valid({**own[0], "stepz": 1})


def test_all_stages_are_offered() -> None:
    """The list of stages in the command names every stage."""
    assert tuple(STAGES) == schema.STAGES


def test_keys_are_listed_with_default_and_meaning(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    """By dotted path; for PPO with PPO's own defaults."""
    monkeypatch.setenv("COLUMNS", "140")
    assert run(["schema", "ppo", "--keys"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "whole number ≥ 1" in lines["rollout.group_size"]
    assert lines["rollout.group_size"].split()[1] == "1"
    assert lines["kl.coefficient"].split()[1] == "0.05"
    assert "required" in lines["model.path"]
    assert "own | head" in lines["critic.kind"]


def test_keys_are_those_of_the_configuration() -> None:
    """Each leads to the default that the configuration has when nothing is said."""
    from rewardkit.train.config import GrpoConfig
    from rewardkit.train.config.base import Section
    from rewardkit.train.config.reference import keys_of
    from rewardkit.train.config.rl import RolloutConfig

    keys = {key.name: key for key in keys_of(GrpoConfig)}
    rollout = RolloutConfig()
    for name in RolloutConfig.model_fields:
        value = getattr(rollout, name)
        if not isinstance(value, Section):
            shown = keys[f"rollout.{name}"].default
            assert shown == (value if isinstance(value, str) else json.dumps(value))
    assert [name for name, key in keys.items() if key.kind == "anything"] == []


def test_reward_files_have_no_list_of_keys(capsys: pytest.CaptureFixture) -> None:
    """Their parameters are the plugins'."""
    assert run(["schema", "--keys"]) == 2
    assert "for training configurations" in capsys.readouterr().err
