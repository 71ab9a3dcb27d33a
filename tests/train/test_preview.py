"""Before a run: what is in the loss is shown, and what is odd about the data is told."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rewardkit import Rollout, reward
from rewardkit.registry import Registry
from rewardkit.train.preview import preview, show
from rewardkit.train.stages import read_train_config


@reward("needy")
def needy(rollout: Rollout, *, column: str = "answer") -> float:
    """Reads a column."""
    return 0.0


def look(work, folder, rows, stage="sft", **overrides):
    """Findings on some rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: {work}/base}}\ndata: {{train: rows.jsonl}}\nsteps: 1\n"
    rewards = "reward: {components: {a: {use: needy}}}\nrollout: {max_new_tokens: 20}\n" if stage == "grpo" else ""
    (folder / "config.yaml").write_text(common + rewards)
    registry = Registry()
    registry.register(needy)
    file = read_train_config(folder / "config.yaml", registry, overrides)
    return file, preview(file)


def test_good_rows_are_shown_without_a_warning(work, tmp_path):
    """The response is green, the prompt is not."""
    file, found = look(work, tmp_path, [{"prompt": "1+1=?", "completion": "2"}, {"prompt": "1+2=?", "completion": "3"}])
    assert found.warnings == []
    assert found.sample.plain == "1+1=?2<|end|>"
    assert {found.sample.plain[span.start : span.end]: span.style for span in found.sample.spans} == {
        "1+1=?": "dim",
        "2<|end|>": "green",
    }
    out = io.StringIO()
    show(file, found, Console(file=out, width=100))
    assert "nothing odd about the data" in out.getvalue()
    assert "2 (2 examples)" in out.getvalue()


@pytest.mark.parametrize(
    ("rows", "overrides", "warning"),
    [
        ([{"prompt": "1", "completion": "2"}] * 3, {}, "2 of 3 examples are there more than once"),
        ([{"prompt": "1+1", "completion": "1+1=2"}], {}, "1 responses begin with their own prompt"),
        (
            [{"prompt": "1", "completion": "2" * 50}, {"prompt": "1", "completion": "2"}],
            {"max_tokens": "9"},
            "1 of 2 rows are longer than 9",
        ),
        (
            [{"prompt": "1", "completion": "1"}]
            + [{"prompt": str(n), "completion": "2"} for n in range(10)]
            + [{"prompt": "1", "completion": "2" * 100}],
            {},
            "lengths are skewed",
        ),
        (
            [{"prompt": "1", "completion": "2"}],
            {"data.eval": "rows.jsonl"},
            "1 training examples are held-out ones, too",
        ),
    ],
)
def test_odd_rows_are_told(work, tmp_path, rows, overrides, warning):
    """Duplicates, echoes, truncation, skew, leaks."""
    assert any(warning in text for text in look(work, tmp_path, rows, **overrides)[1].warnings)


def test_prompts_are_held_against_the_reward_and_the_context(work, tmp_path):
    """Missing columns and prompts that leave no room, before anything is sampled."""
    from rewardkit import FieldName

    assert FieldName is not None
    _, found = look(work, tmp_path, [{"prompt": "1" * 120, "answer": "2"}, {"prompt": "2"}], stage="grpo")
    assert any("1 of 2 rows are longer than 128 tokens and will be refused" in text for text in found.warnings)
    assert any("a step takes 32 prompts and there are 2" in text for text in found.warnings)
