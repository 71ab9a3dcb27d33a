"""The statements of this plugin's README."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import rewardkit_math
from click.testing import CliRunner
from rewardkit_math.plugin import register_commands

from rewardkit.testing import DocsContract

FILE = Path(__file__).parents[1] / "README.md"
README = FILE.read_text(encoding="utf-8")


class TestDocs(DocsContract):
    """Reward files and examples can be copied, and everything is described."""

    plugin = "math"
    readme = FILE


def test_the_python_in_the_readme_is_true():
    """The library's examples return the values in their comments."""
    verdict = rewardkit_math.verify(r"So the probability is $\boxed{\frac{2}{4}}$.", "0.5")
    assert f'reason="{verdict.reason}"'.replace("\\\\", "\\") in README.replace("\\\\", "\\")
    assert repr(rewardkit_math.extract("The final answer is 4. I checked 5 cases.")) in README
    assert repr(rewardkit_math.parse(r"1 \pm \sqrt2")) in README


EXAMPLES = re.findall(r"^\| [^|`]*\| `(.*?)` \| `(.*?)` \| (equal|different) \|$", README, re.MULTILINE)


@pytest.mark.parametrize(("prediction", "reference", "verdict"), EXAMPLES)
def test_the_examples_are_compared_as_the_readme_says(prediction, reference, verdict):
    """Each example of the table has the verdict beside it, also with the prediction in a box."""
    for text in (prediction, f"So it is \\boxed{{{prediction}}}."):
        assert rewardkit_math.verify(text, reference, deadline_s=30).correct is (verdict == "equal")


def test_the_table_has_examples():
    """Every row of the table is tested."""
    assert len(EXAMPLES) == len(re.findall(r" \| (?:equal|different) \|$", README, re.MULTILINE)) > 40


def test_every_convention_is_in_the_table():
    """Each field of Policy is described in the README."""
    for field in dataclasses.fields(rewardkit_math.Policy):
        assert f"`{field.name}`" in README or field.name == "memory_bytes"


def test_the_command_in_the_readme_prints_what_stands_below_it():
    """`rewardkit math` explains a pair as the README shows."""
    (shown,) = re.findall(r"```console\n\$ rewardkit math (.*?)\n(.*?)```", README, re.DOTALL)
    (command,) = register_commands()
    assert CliRunner().invoke(command, shlex.split(shown[0])).output == shown[1]
