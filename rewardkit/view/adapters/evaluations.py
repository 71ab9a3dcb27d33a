"""The answers that ``rewardkit eval`` saves: one file for each model."""

from __future__ import annotations

from pathlib import Path

from rewardkit.view.adapters.lines import Rows, json_lines

GREEDY = -1
"""The place of a greedy answer."""


def answer_files(folder: Path) -> list[Path]:
    """Return the files of answers in a folder."""
    return sorted(folder.glob("answers-*.jsonl"))


def rows(path: Path, at: int = 0) -> Rows:
    """Yield the answers of a model as scored rows; a prompt is named by its number. Raises DataError."""
    for record, end in json_lines(path, at):
        number = int(record.get("prompt", 0)) + 1
        yield (
            {
                "prompt": f"Held-out prompt {number:,}",
                "completion": record.get("text"),
                "group": f"prompt {number}",
                "reward": record.get("reward"),
                "num_tokens": record.get("tokens"),
                "finish_reason": "length" if record.get("is_cut") else "stop",
                "right": record.get("right"),
                "final_answer": record.get("answer"),
                "decoding": "greedy" if record.get("place") == GREEDY else "sampled",
                "components": {
                    name: {"value": value, "extracted": record.get("answer")}
                    for name, value in (record.get("components") or {}).items()
                },
            },
            end,
        )
