"""Score rows by the reward functions that come with other libraries, called directly and by a reward file, and compare the numbers.

    python benchmarks/peers_functions.py [--rows 500] [--data FOLDER]

A reward file names such a function as ``use: package.module:function``. Functions of libraries that are not installed are left out: TRL
is in the extra `peers`, and verl has an environment of its own (`make test-integrations` makes it). The rows are solutions that models
wrote for GSM8K, from FOLDER/rollouts/gsm8k_model_solutions.jsonl; their answers are written in turn as the functions expect them,
boxed, after ``####`` and behind a ``</think>``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rewardkit import Rollout, load_reward

# Not the folder of this file, in which a module has the name of a library that TRL's functions import.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FORMS = (
    "{work}\n\\boxed{{{answer}}}",
    "{work}\n#### {answer}",
    "<think>{work}</think>\\boxed{{{answer}}}",
    "{work}\n{answer}",
)
"""How an answer is written."""


@dataclass(frozen=True)
class Peer:
    """A function of another library, and how a reward file and its own trainer call it."""

    use: str
    options: dict[str, Any]
    direct: Callable[[Callable[..., Any], Sequence[dict[str, str]]], Sequence[Any]]


def _trl(function: Callable[..., Any], rows: Sequence[dict[str, str]]) -> Sequence[Any]:
    completions = [[{"role": "assistant", "content": row["completion"]}] for row in rows]
    values: Sequence[Any] = function(completions=completions, solution=[row["solution"] for row in rows])
    return values


def _verl(function: Callable[..., Any], rows: Sequence[dict[str, str]]) -> Sequence[Any]:
    found = [function(solution_str=row["completion"], ground_truth=row["answer"]) for row in rows]
    return [value["score"] if isinstance(value, dict) else value for value in found]


PEERS = (
    *(
        Peer(f"trl.rewards.{name}", {"chat": True}, _trl)
        for name in (
            "accuracy_rewards:accuracy_reward",
            "accuracy_rewards:reasoning_accuracy_reward",
            "format_rewards:think_format_reward",
        )
    ),
    *(
        Peer(f"verl.utils.reward_score.{name}:compute_score", {"reference": "answer"}, _verl)
        for name in ("gsm8k", "math_reward", "math_dapo")
    ),
)


def solutions(data: Path) -> Iterator[dict[str, str]]:
    """Yield rows: a question, a model's solution of it, and the answer.

    Args:
        data: The folder of the data.
    """
    forms = itertools.cycle(FORMS)
    with (data / "rollouts" / "gsm8k_model_solutions.jsonl").open(encoding="utf-8") as file:
        for item in map(json.loads, file):
            answer = item["ground_truth"].rpartition("A:")[2].strip().replace(",", "")
            for value in item.values():
                if isinstance(value, dict):
                    work, _, said = value["solution"].rpartition("A:")
                    text = next(forms).format(work=work.strip(), answer=said.strip())
                    yield {"prompt": item["question"], "completion": text, "answer": answer, "solution": f"${answer}$"}


def installed(peer: Peer) -> bool:
    """Return whether a function's library is installed."""
    return importlib.util.find_spec(peer.use.partition(".")[0]) is not None


def compare(peer: Peer, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Score rows both ways.

    Args:
        peer: The function.
        rows: The rows.

    Returns:
        The number of rows, of equal values, of rows without a value, the mean value, and the seconds of either way.
    """
    where, _, name = peer.use.partition(":")
    function = getattr(importlib.import_module(where), name)
    start = time.perf_counter()
    direct = [None if value is None else float(value) for value in peer.direct(function, rows)]
    middle = time.perf_counter()
    config = {"version": 1, "components": {"peer": {"use": peer.use, "with": peer.options}}}
    rollouts = [Rollout.from_row(row) for row in rows]
    with load_reward(config) as reward:
        scored = [item.reward for item in reward.score(rollouts)]
    known = [value for value in direct if value is not None]
    return {
        "use": peer.use,
        "rows": len(rows),
        "equal": sum(one == other for one, other in zip(direct, scored, strict=True)),
        "none": direct.count(None),
        "mean": math.fsum(known) / max(1, len(known)),
        "direct_s": middle - start,
        "file_s": time.perf_counter() - middle,
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    rows = list(itertools.islice(solutions(given.data), given.rows))
    print("| Function | Version | Rows | Equal | None | Mean | Called directly (s) | By a reward file (s) |")
    print("|---|---|---|---|---|---|---|---|")
    for peer in filter(installed, PEERS):
        found = compare(peer, rows)
        numbers = f"{found['rows']} | {found['equal']} | {found['none']} | {found['mean']:.3f}"
        seconds = f"{found['direct_s']:.2f} | {found['file_s']:.2f}"
        print(f"| `{peer.use}` | {version(peer.use.partition('.')[0])} | {numbers} | {seconds} |")


if __name__ == "__main__":
    main()
