"""What the README of this plugin promises."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from rewardkit_code import CodeTests
from rewardkit_code.extract import Language
from rewardkit_sandbox import LANGUAGES

from rewardkit import Registry, Rollout
from rewardkit.config.params import params_schema
from rewardkit.config.spec import parse_config

README = (Path(__file__).parents[1] / "README.md").read_text()
REGISTRY = Registry.load()
REWARDS = [name for name in REGISTRY.names() if name.startswith("code.")]


def resolve(text):
    """Check a reward file."""
    for component in parse_config(text, REGISTRY).composites[""].components:
        function = component.offer.type.build(component.params)
        if hasattr(function, "close"):
            function.close()


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_reward_file_in_the_readme_is_accepted(text):
    """YAML in the README can be copied."""
    resolve(text)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_s_example_is_accepted(name):
    """What `rewardkit plugins` shows as the example can be copied."""
    lines = REGISTRY.get(name).type.example.splitlines()
    resolve("\n".join(["version: 1", "components:", *(f"  {line}" for line in lines)]))


@pytest.mark.parametrize("name", REWARDS)
def test_every_parameter_is_described(name):
    """Every reward has a summary, every parameter a description and a place in the README."""
    reward_type = REGISTRY.get(name).type
    assert reward_type.doc
    for parameter, schema in params_schema(reward_type)["properties"].items():
        assert schema.get("description")
        assert f"`{parameter}`" in README
    assert f"`{name}`" in README


@pytest.mark.usefixtures("_needs_sandbox")
def test_every_row_in_the_readme_passes():
    """The rows for each kind of test are right programs."""
    rows = [json.loads(line) for line in re.search(r"```jsonl\n(.*?)\n```\n", README, re.DOTALL)[1].splitlines()]
    reward = CodeTests(entry_point="entry_point", slots=2)
    try:
        results = asyncio.run(
            reward([Rollout(row.pop("prompt"), row.pop("completion"), {"entry_point": "", **row}) for row in rows])
        )
    finally:
        reward.close()
    assert [result.reason for result in results if result.value != 1.0] == []


def test_languages_are_those_of_the_sandbox():
    """Each has its name for a block."""
    assert set(Language.__args__) == set(LANGUAGES)
