"""What the README and the example of this plugin promise."""

import re
from pathlib import Path

import pytest

from rewardkit import Registry
from rewardkit.config.params import params_schema
from rewardkit.config.spec import parse_config

README = (Path(__file__).parents[1] / "README.md").read_text()
REGISTRY = Registry.load()


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_reward_file_in_the_readme_is_accepted(text):
    """YAML in the README can be copied, where there is such a model."""
    parse_config(text, REGISTRY)


def test_the_example_is_accepted():
    """What `rewardkit plugins` shows as the example can be copied."""
    example = REGISTRY.get("reward_model").type.example
    parse_config(f"version: 1\ncomponents:\n  {example}\n", REGISTRY)


def test_every_parameter_is_described():
    """The reward has a summary and every parameter a description."""
    reward_type = REGISTRY.get("reward_model").type
    assert reward_type.doc
    assert all(schema.get("description") for schema in params_schema(reward_type)["properties"].values())
