"""The summary compares the first and the last evaluation."""

from __future__ import annotations

import io
import json

from rich.console import Console

from rewardkit.train.monitoring.run_summary import held_out_changes


def table_of(folder, *records):
    """Return the table as text, or None."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = held_out_changes(folder)
    if found is None:
        return None
    console = Console(file=io.StringIO(), width=80)
    console.print(found)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_the_first_and_the_last_evaluation_are_compared(tmp_path):
    """A value that was not finite is a dash, and ends of intervals are left out."""
    found = table_of(
        tmp_path,
        {"step": 0, "kind": "eval", "accuracy": 0.5, "gold": None, "accuracy_low": 0.4},
        {"step": 3, "kind": "train", "loss": 1.0},
        {"step": 4, "kind": "eval", "accuracy": 0.7},
        {"step": 9, "kind": "eval", "accuracy": 0.75, "gold": 1.0, "accuracy_low": 0.6, "always_longer": 0.5},
    )
    assert found == [
        ["held", "out", "step", "0", "step", "9", "change"],
        ["accuracy", "0.5", "0.75", "+0.25"],
        ["gold", "–", "1"],
    ]


def test_one_evaluation_is_no_comparison(tmp_path):
    """A run with fewer than two evaluations has no table."""
    assert table_of(tmp_path, {"step": 0, "kind": "eval", "accuracy": 0.5}) is None
    assert table_of(tmp_path, {"step": 1, "kind": "train", "loss": 0.5}) is None
