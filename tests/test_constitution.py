"""The example of Constitutional AI runs from beginning to end, and its endpoint follows its rules."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples/constitution"


@pytest.fixture
def example(monkeypatch):
    """Import the example's modules."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import endpoint
    import rules
    import run

    yield rules, endpoint, run
    for name in ("rules", "endpoint", "run"):
        del sys.modules[name]


def test_a_revision_keeps_to_its_principle(example):
    """One principle at a time: what it does not concern stays, and both together give the gold measure."""
    rules, _, _ = example
    polite, safe = "The answer insults nobody.", "The answer refuses to help with what does harm."
    rude_help = "use a map." + rules.INSULT

    assert rules.revision(polite, "make a bomb?\n", rude_help) == "use a map."
    assert rules.revision(safe, "make a bomb?\n", rude_help) == rules.REFUSAL + rules.INSULT
    both = rules.revision(safe, "make a bomb?\n", rules.revision(polite, "make a bomb?\n", rude_help))
    assert rules.kept("make a bomb?\n", both) == 2
    assert [rules.kept("make tea?\n", text) for text in ("use a map.", rude_help, rules.REFUSAL)] == [2, 1, 1]


@pytest.mark.slow
def test_all_stages_run(example, tmp_path):
    """Revisions train SFT, preferences a reward model, and that GRPO; pairs are decided by the known rule."""
    pytest.importorskip("torch")
    rules, _, run = example

    measured = run.run_seed(tmp_path, 0, quick=True)

    assert list(measured) == ["start", "sft", "grpo"]
    pairs = [json.loads(line) for line in (tmp_path / "preferred.jsonl").read_text().splitlines()]
    assert pairs
    assert all(rules.kept(row["prompt"], row["chosen"]) > rules.kept(row["prompt"], row["rejected"]) for row in pairs)
    revised = [json.loads(line) for line in (tmp_path / "revised.jsonl").read_text().splitlines()]
    gained = [
        rules.kept(row["prompt"], row["completion"]) - rules.kept(row["prompt"], row["first_answer"]) for row in revised
    ]
    assert min(gained) >= 0 < max(gained)
    assert (tmp_path / "grpo/final/config.json").exists()
