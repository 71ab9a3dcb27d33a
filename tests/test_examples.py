"""Every file in examples/ is what it claims to be."""

import json
import runpy
from pathlib import Path

import pytest

from rewardkit.config import read_config
from rewardkit.registry import Registry

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    "file",
    sorted(
        file
        for file in EXAMPLES.rglob("reward*.yaml")
        if "\nstage: " not in file.read_text() and "plugin" not in file.parts
    ),
    ids=lambda file: str(file.relative_to(EXAMPLES)),
)
def test_reward_files_are_valid(file):
    """An example's reward file is accepted with the first-party plugins installed (that of the plugin is tested with it)."""
    registry = Registry.load()
    if "math" not in registry.names():
        pytest.skip("the math plugin is not installed")

    assert read_config(file, registry).component_names


def test_the_demo_rollouts_are_what_their_script_writes():
    """rollouts.jsonl is the output of make_rollouts.py, so that nobody edits one without the other."""
    made = runpy.run_path(str(EXAMPLES / "demo" / "make_rollouts.py"))
    shipped = [json.loads(line) for line in (EXAMPLES / "demo" / "rollouts.jsonl").read_text().splitlines()]

    assert shipped == list(made["rows"]())


def test_the_demo_has_groups_of_eight_with_every_kind_of_completion():
    """At least 200 rollouts of several prompts, in groups of eight, cut-off ones among them."""
    rows = [json.loads(line) for line in (EXAMPLES / "demo" / "rollouts.jsonl").read_text().splitlines()]
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)

    assert len(rows) >= 200
    assert {len(members) for members in groups.values()} == {8}
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
