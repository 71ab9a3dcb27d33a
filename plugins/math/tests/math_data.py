"""The labelled data for measurements of accuracy, in `../shared/data` beside the repository or in REWARDKIT_DATA."""

import json
import os
from pathlib import Path

DATA = Path(os.environ.get("REWARDKIT_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))


def rows(name):
    """Return the rows of a JSONL file of the data, or None if it is missing."""
    path = DATA / name
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def wrapped(row, side):
    """Return one side of a case, in a box if it is a bare answer."""
    return f"\\boxed{{{row[side]}}}" if row.get(f"wrap_{side}") else row[side]


def cases(name):
    """Return (prediction, reference, expected, row) for each case of a set; None if its file is missing."""
    if name == "gsm8k":
        found = rows("rollouts/gsm8k_model_solutions.jsonl")
        return found and [
            (cell["solution"], row["ground_truth"], cell["is_correct"], row)
            for row in found
            for cell in row.values()
            if isinstance(cell, dict)
        ]
    if name == "cot":
        found = rows("rollouts/math_cot_100.jsonl")
        return found and [
            (code, f"\\boxed{{{row['answer']}}}", score, row)
            for row in found
            for code, score in zip(row["code"], row["score"], strict=True)
        ]
    found = rows(f"math/{name.split('/')[0]}.jsonl")
    if found is None:
        return None
    if name == "mathverify_cases":
        found = [r for r in found if r["task"] == "verify"]
    if name.startswith("peer_cases"):
        found = [r for r in found if not r["dup_of_mathverify"] and not r["policy"]]
        qwen = name.endswith("qwen")
        found = [r for r in found if r["source"].startswith("Qwen") == qwen]
    return [(wrapped(r, "pred"), wrapped(r, "gold"), r["expected"], r) for r in found]


def disputed(row, expected):
    """Return the reason why a label is disputed, or "" if it isn't."""
    if expected:
        return ""
    if "4:30 p.m." in str(row.get("gold", row.get("answer"))):
        return r"the label says that 4:30 \text{ p.m.} is not \text{4:30 p.m.}"
    if row.get("answer") == "10{,}000":
        return "the label says that 10000 is not 10{,}000"
    if row.get("gold") == r"$x \in [-2,7]$" and "le x" in row["pred"] and not row["config"]["allow_set_relation_comp"]:
        return "Math-Verify refuses an inequality for an interval, unless told; set_relation decides"
    if row.get("pred") == "Answer $ \n 9 \n $":
        return "Math-Verify was told to look at LaTeX alone, and this is none; the last number is 9"
    return ""
