"""Audit a reward of form, mathematics and length on prompts of GSM8K, and print the seconds.

    python benchmarks/audit.py [--rows 1000] [--data FOLDER]

The rows have right and wrong solutions by models, from FOLDER/rollouts/gsm8k_model_solutions.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewardkit import load_reward
from rewardkit.insight.audit import attack, honest_rows, levels_of
from rewardkit.insight.cheats import CHEATS

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
FORM = "<think>\n{work}\n</think>\n<answer>\n\\boxed{{{answer}}}\n</answer>"


def prompts(data: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each prompt: a right and a wrong solution, where there are both.

    Args:
        data: The folder of the data.
    """
    with (data / "rollouts" / "gsm8k_model_solutions.jsonl").open(encoding="utf-8") as file:
        for item in map(json.loads, file):
            answer = item["ground_truth"].rpartition("A:")[2].strip().replace(",", "")
            found = {value["is_correct"]: value["solution"] for value in item.values() if isinstance(value, dict)}
            rows = []
            for text in found.values():
                work, _, said = text.rpartition("A:")
                completion = FORM.format(work=work.strip(), answer=said.strip())
                row = {"prompt": item["question"], "completion": completion, "answer": answer}
                rows.append({**row, "num_tokens": len(text) // 4, "finish_reason": "stop"})
            yield rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="prompts")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    rows = list(itertools.chain.from_iterable(itertools.islice(prompts(given.data), given.rows)))
    wall, cpu = time.perf_counter(), time.process_time()
    with load_reward(ROOT / "examples" / "demo" / "reward.yaml") as reward:
        honest = honest_rows(one.to_dict() for one in reward.score(rows))
        found = attack(reward, CHEATS, honest, levels_of(honest))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{len(honest):,} prompts, {len(CHEATS)} cheats, {found.completions:,} completions: {wall:.1f} s, {cpu:.1f} s of CPU"
    )


if __name__ == "__main__":
    main()
