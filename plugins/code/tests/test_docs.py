"""The README and the examples of this plugin keep their promises."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from rewardkit_code import CodeTests
from rewardkit_code.program.extraction import Language
from rewardkit_sandbox import LANGUAGES

from rewardkit import Registry, Rollout
from rewardkit.config.params import params_schema
from rewardkit.testing import DocsContract

README = Path(__file__).parents[1] / "README.md"


class TestDocs(DocsContract):
    """Reward files and examples can be copied, and everything is described."""

    plugin = "code"
    readme = README


@pytest.mark.parametrize("name", [name for name in Registry.load().names() if name.startswith("code.")])
def test_every_parameter_stands_in_the_readme(name):
    """The README has every parameter by its name."""
    text = README.read_text()
    assert [
        each for each in params_schema(Registry.load().get(name).type)["properties"] if f"`{each}`" not in text
    ] == []


@pytest.mark.usefixtures("_needs_sandbox")
def test_every_row_in_the_readme_passes():
    """The README's rows for each kind of test are correct programs."""
    lines = re.search(r"```jsonl\n(.*?)\n```\n", README.read_text(), re.DOTALL)[1].splitlines()
    rows = [json.loads(line) for line in lines]
    reward = CodeTests(slots=2)
    try:
        results = asyncio.run(reward([Rollout(row.pop("prompt"), row.pop("completion"), row) for row in rows]))
    finally:
        reward.close()
    assert len(results) == 7
    assert [result.reason for result in results if result.value != 1.0] == []


def test_languages_are_those_of_the_sandbox():
    """Every language of the sandbox has its names for fenced blocks."""
    assert set(Language.__args__) == set(LANGUAGES)
