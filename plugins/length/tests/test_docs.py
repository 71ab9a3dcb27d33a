"""What the README and the examples of this plugin promise."""

import re
from pathlib import Path

import pytest

from rewardkit import Registry
from rewardkit.config.params import params_schema
from rewardkit.config.spec import parse_config

README = (Path(__file__).parents[1] / "README.md").read_text()
REGISTRY = Registry.load()
REWARDS = [name for name in REGISTRY.names() if name.startswith("length.")]


def resolve(text):
    """Check a reward file, unless it uses a plugin that is not installed."""
    if "use: math" in text and "math" not in REGISTRY.names():
        pytest.skip("the example uses the math plugin, which is not installed")
    for component in parse_config(text, REGISTRY).composites[""].components:
        component.offer.type.build(component.params)


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
    """Every reward has a summary, every parameter a description, and the README lists every reward."""
    reward_type = REGISTRY.get(name).type
    assert reward_type.doc
    assert all(schema.get("description") for schema in params_schema(reward_type)["properties"].values())
    assert f"`{name}`" in README
