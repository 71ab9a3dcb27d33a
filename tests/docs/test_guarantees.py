"""The page of guarantees names tests that exist, and claims that no other test holds are held here."""

import ast
import json
import re
from pathlib import Path

import pytest

from rewardkit import Registry
from rewardkit.cli import run
from rewardkit.config import parse_config
from rewardkit.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
REWARD = "version: 1\ncomponents: {tags: {use: format.tags, with: {tags: [plan, result]}}}"


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_named_test_exists(file, name):
    """A promise names a test that is there."""
    functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}

    assert name in functions


def test_every_promise_names_a_test():
    """Each row of the tables ends with the name of a test."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]

    assert len(rows) == len(NAMED) > 15


def test_the_manifest_holds_every_parameter(tmp_path):
    """The manifest of a scored file records the values under ``with``, which is why secrets do not belong there."""
    (tmp_path / "reward.yaml").write_text(REWARD)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    out = tmp_path / "out.jsonl"

    code = run(["score", str(tmp_path / "rows.jsonl"), "--reward", str(tmp_path / "reward.yaml"), "--out", str(out)])

    assert code == 0
    assert '"tags": ["plan", "result"]' in json.dumps(json.loads(Path(f"{out}.manifest.json").read_text())["reward"])


def test_the_record_of_a_reward_holds_every_parameter():
    """The resolved reward, which a run records, holds the values under ``with``."""
    assert '"tags": ["plan", "result"]' in json.dumps(parse_config(REWARD, Registry.load()).resolved)


def test_a_timeout_on_an_inline_reward_is_refused():
    """An inline reward has no time-out, and asking for one is an error rather than a promise that is not kept."""
    with pytest.raises(ConfigError, match="timeout"):
        parse_config(REWARD.replace("}}}", "}, timeout: 1}}"), Registry.load())
