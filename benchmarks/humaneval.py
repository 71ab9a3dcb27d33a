"""HumanEval's canonical solutions must pass and a mutant of each must fail, on both backends, in under ten seconds.

    python benchmarks/humaneval.py ../shared/data/code/HumanEval.jsonl.gz [--problems 164] [--backends docker bubblewrap]

A mutant has one operator, comparison or constant changed, and counts only if its results differ from those of the canonical solution on
the inputs of the tests (see humaneval_rows.py). The time includes opening the sandbox and scoring all programs with `code.tests`, but not
finding the mutants. CPU is that of the calling process, which does not depend on the load of the machine. Exits with 1 if a limit is
missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from humaneval_rows import LIMITS, Problem, canonical, find_mutants, read_problems
from rewardkit_sandbox import open_sandbox
from rich.console import Console
from rich.table import Table

from rewardkit import Rollout, Score
from rewardkit.composite import load_reward

MAX_SECONDS = 10.0
REWARD = """version: 1
components:
  correct: {{use: code.tests, with: {{tests: test, entry_point: entry_point, extract: whole, backend: {backend}}}}}
"""


def rollout(problem: Problem, source: str) -> Rollout:
    """Return a rollout with the program as the whole completion."""
    return Rollout(problem["prompt"], source, {"test": problem["test"], "entry_point": problem["entry_point"]})


def measure(
    backend: str, problems: Sequence[Problem], mutants: Sequence[str | None]
) -> tuple[list[str], list[str], float, float]:
    """Return the canonical solutions that failed, the mutants that passed (both with their outcomes), seconds, and CPU seconds."""
    right = [rollout(problem, canonical(problem)) for problem in problems]
    pairs = [(problem, source) for problem, source in zip(problems, mutants, strict=True) if source is not None]
    wrong = [rollout(problem, source) for problem, source in pairs]
    start, cpu = time.perf_counter(), time.process_time()
    with load_reward(REWARD.format(backend=backend)) as reward:
        scored = [item.outcomes["correct"] for item in reward.score(right + wrong)]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    missed = wrongly(1.0, problems, scored[: len(right)])
    passed = wrongly(0.0, [problem for problem, _ in pairs], scored[len(right) :])
    return missed, passed, seconds, cpu


def wrongly(wanted: float, problems: Sequence[Problem], outcomes: Sequence[object]) -> list[str]:
    """Return the outcomes of programs that did not get the value that they should."""
    return [
        f"{problem['task_id']}: {outcome}"
        for problem, outcome in zip(problems, outcomes, strict=True)
        if not (isinstance(outcome, Score) and outcome.value == wanted)
    ]


def main() -> int:
    """Print the table; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems_file", type=Path)
    parser.add_argument("--problems", type=int, help="only this many, from the first")
    parser.add_argument("--backends", nargs="+", default=["docker", "bubblewrap"])
    arguments = parser.parse_args()
    problems = read_problems(arguments.problems_file)[: arguments.problems]
    with open_sandbox(limits=LIMITS) as sandbox:
        mutants = find_mutants(sandbox, problems)
    count, found = len(problems), len(problems) - mutants.count(None)
    table = Table(title=f"HumanEval, {count} problems, {found} mutants", title_justify="left")
    for title in ("backend", "canonical pass", "mutants fail", "seconds", "CPU s"):
        table.add_column(title, justify="right" if title != "backend" else "left")
    table.add_row("limit", f"{count}", f"{found}", f"{MAX_SECONDS:.0f}", "")
    failed, told = False, []
    for backend in arguments.backends:
        missed, passed, seconds, cpu = measure(backend, problems, mutants)
        failed |= bool(missed or passed or seconds > MAX_SECONDS)
        table.add_row(backend, f"{count - len(missed)}", f"{found - len(passed)}", f"{seconds:.1f}", f"{cpu:.1f}")
        told += [f"{backend}, {line}" for line in missed + passed]
    console = Console()
    console.print(table)
    same = [problem["task_id"] for problem, source in zip(problems, mutants, strict=True) if source is None]
    console.print(f"No mutant differs on the tests' inputs for {len(same)} problems: {', '.join(same) or 'none'}")
    for line in told:
        console.print(line, markup=False)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
