"""What the README of this plugin promises."""

import dataclasses
import re
from pathlib import Path

import pytest
import rewardkit_math

from rewardkit import Registry
from rewardkit.config.params import params_schema
from rewardkit.config.spec import parse_config

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_reward_file_in_the_readme_is_accepted(text):
    """YAML in the README can be copied."""
    assert parse_config(text, Registry.load())


def test_the_python_in_the_readme_says_the_truth():
    """The library's examples give what stands beside them."""
    verdict = rewardkit_math.verify(r"So the probability is $\boxed{\frac{2}{4}}$.", "0.5")
    assert f'reason="{verdict.reason}"'.replace("\\\\", "\\") in README.replace("\\\\", "\\")
    assert repr(rewardkit_math.extract("The final answer is 4. I checked 5 cases.")) in README
    assert repr(rewardkit_math.parse(r"1 \pm \sqrt2")) in README


def test_every_convention_is_in_the_table():
    """Each field of Policy, and each parameter of the reward, is described in the README and in the schema."""
    for field in dataclasses.fields(rewardkit_math.Policy):
        assert f"`{field.name}`" in README or field.name == "memory_bytes"
    schema = params_schema(Registry.load().get("math").type)
    assert all(s.get("description") for s in schema["properties"].values())
