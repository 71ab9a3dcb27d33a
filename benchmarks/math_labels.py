"""Agreement of rewardkit-math with labelled pairs, one line per file, and every row on which they differ.

    python benchmarks/math_labels.py [--wrong] [--only NAME]

Data: `../shared/data` beside the repository, or REWARDKIT_DATA. "Wrong called right" is the number of false positives, "right called
wrong" that of false negatives; unscored rows count as neither, and are not right. Rows whose label is undecided are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from math_verify import load_data
from rewardkit_math import verify

Row = tuple[str, str, bool | None, str]


def kinds(data: Any) -> dict[str, list[Row]]:
    """Return the rows of every labelled file that is there: prediction, reference, expected verdict, note."""
    found: dict[str, list[Row]] = {}
    for path in sorted((data.DATA / "math" / "kinds").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[f"kinds/{path.stem}"] = [(r["p"], r["r"], r["e"], "") for r in rows]
    pairs = data.rows("math/practice_pairs.jsonl") or []
    for name, debatable in (("practice_pairs, clear", False), ("practice_pairs, debatable", True)):
        found[name] = [
            (r["prediction"], r["reference"], r["expected"], f"{r['id']} {r['kind']}")
            for r in pairs
            if bool(r.get("debatable")) is debatable
        ]
    for name in ("mathverify_cases", "peer_cases/core", "peer_cases/qwen", "adversarial_cases", "math5000_derived"):
        cases = data.cases(name) or []
        found[name] = [(p, r, e, data.disputed(row, e)) for p, r, e, row in cases]
    faults = data.DATA.parent / "cases" / "scoring" / "math_faults.jsonl"
    if faults.exists():
        rows = [json.loads(line) for line in faults.read_text(encoding="utf-8").splitlines()]
        found["math_faults"] = [
            (r["completion"], str(r["answer"]), None if r["right"] is None else bool(r["right"]), r["id"])
            for r in rows
            if r["right"] is not None
        ]
    return {name: rows for name, rows in found.items() if rows}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true", help="list the rows on which verdict and label differ")
    parser.add_argument("--only", default="", help="part of the names of the files to measure")
    parser.add_argument("--pairs", type=Path, help="a JSONL file of your own, with p, r and e")
    arguments = parser.parse_args()
    files = kinds(load_data())
    if arguments.pairs:
        rows = [json.loads(line) for line in arguments.pairs.read_text(encoding="utf-8").splitlines() if line.strip()]
        files = {arguments.pairs.stem: [(r["p"], r["r"], r["e"], r.get("k", "")) for r in rows]}
    print(
        f"{'file':<28} {'right':>11}  {'wrong called right':>18}  {'right called wrong':>18}  {'unscored':>8}  {'CPU s':>6}"
    )
    for name, rows in files.items():
        if arguments.only not in name:
            continue
        started = time.process_time()
        decided = [(p, r, e, note, verify(p, r)) for p, r, e, note in rows if e is not None]
        seconds = time.process_time() - started
        wrong = [row for row in decided if row[4].correct is not row[2]]
        positives = sum(v.correct is True for *_, v in wrong)
        negatives = sum(v.correct is False for *_, v in wrong)
        unscored = sum(v.correct is None for *_, v in wrong)
        print(
            f"{name:<28} {len(decided) - len(wrong):>5}/{len(decided):<5}  {positives:>18}  {negatives:>18}  "
            f"{unscored:>8}  {seconds:>6.2f}"
        )
        if arguments.wrong:
            for prediction, reference, expected, note, verdict in wrong:
                print(
                    f"    want {expected!s:<5} got {verdict.correct!s:<5} {prediction[-150:]!r} | {reference[:100]!r}  {note}"
                )
                print(f"         {verdict.reason[-150:]} [{verdict.tier}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
