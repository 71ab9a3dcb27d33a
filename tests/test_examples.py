"""Every file in examples/ is what it claims to be."""

import json
import re
import runpy
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rewardkit.config import read_config
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config

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


@pytest.mark.parametrize("file", sorted((EXAMPLES / "real").glob("*.yaml")), ids=lambda file: file.name)
def test_configurations_of_pretrained_models_are_valid(file):
    """The training configurations in examples/real are accepted, and name files that ship or that prepare.py writes."""
    registry = Registry.load()
    if not {"math", "length.overlong"} <= registry.rewards.keys():
        pytest.skip("the plugins math and length are not installed")

    config = read_train_config(file, registry).config
    assert config.model.chat_template is None or config.model.chat_template.is_file()
    assert config.data.train.name in (EXAMPLES / "real/prepare.py").read_text().replace("{name}", "train")


def test_word_problems_are_rows_of_verl_and_none_is_in_both_files(tmp_path):
    """prepare.py writes Parquet files in verl's format with right answers, and holds out other problems than it trains on."""
    prepare = runpy.run_path(str(EXAMPLES / "real/prepare.py"))
    prepare["write_words"](tmp_path)
    train, held_out = (pq.read_table(tmp_path / f"words_{name}.parquet").to_pylist() for name in ("train", "heldout"))

    assert {row["prompt"][0]["content"] for row in train}.isdisjoint(row["prompt"][0]["content"] for row in held_out)
    for row in (*train, *held_out):
        have, change = map(int, re.findall(r"\d+", row["prompt"][0]["content"]))
        gains = any(word in row["prompt"][0]["content"] for word in ("buys", "finds"))
        assert row["reward_model"]["ground_truth"] == str(have + change if gains else have - change)


def test_answers_of_gsm8k_become_references_and_completions(tmp_path):
    """The reference is the number after ####, and the completion lacks the notes of the calculator."""
    prepare = runpy.run_path(str(EXAMPLES / "real/prepare.py"))
    [row] = prepare["gsm8k_rows"](
        [{"question": "?", "answer": "It is 2*600 = <<2*600=1200>>1200.\n#### 1,200"}], "train"
    )

    assert row["completion"] == "It is 2*600 = 1200.\n#### 1,200"
    assert row["reward_model"]["ground_truth"] == "1200"


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
