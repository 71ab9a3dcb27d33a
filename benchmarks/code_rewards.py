"""Programs per second of `rewardkit score` with `code.tests`, compared with the bare sandbox on the same programs.

    python benchmarks/code_rewards.py [--rows 2000 20000] [--backend auto] [--rounds 3]

All programs differ, so that nothing comes from a cache. Each has typical imports, reads integers and has two stdin tests. The bare
sandbox is open beforehand and called from as many threads as `code.tests` uses; its output is compared. For `rewardkit score`, the
whole command is timed, with and without the time that it takes for a single row. Speed depends on the load of the machine: rounds of
both alternate, and the best of each counts. CPU is that of the calling process alone. The reward layer may add at most 20 % to the
time. Memory is the peak of the calling process, which must not grow with the number of rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from rewardkit_sandbox import Program, Stdin, open_sandbox, same_output
from rewardkit_sandbox.opening import default_slots
from rich.console import Console
from rich.table import Table

MAX_OVERHEAD = 0.20
MAX_GROWTH = 1.2
SOURCE = """\
# {number}
import sys, math, heapq, bisect, collections, itertools, functools, re, json, random, string, operator, datetime
from collections import defaultdict, deque, Counter

def main():
    values = list(map(int, sys.stdin.read().split()))
    heap = list(values)
    heapq.heapify(heap)
    total = sum(heapq.heappop(heap) * (i % 3) for i in range(len(values)))
    print(total + {number}, max(Counter(values).values()), bisect.bisect_left(sorted(values), 500))

main()
"""


def tests(number: int) -> list[dict[str, str]]:
    """Return two inputs of two hundred integers with their expected outputs."""
    made = []
    for shift in (0, 7):
        values = [(number * 7919 + shift + i * i * 31) % 1000 for i in range(200)]
        total = sum(value * (i % 3) for i, value in enumerate(sorted(values)))
        most = max(values.count(value) for value in set(values))
        expected = f"{total + number} {most} {sum(value < 500 for value in values)}\n"
        made.append({"stdin": " ".join(map(str, values)) + "\n", "expected": expected})
    return made


def write_rows(path: Path, count: int) -> None:
    """Write this number of rollouts, all of them correct."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            completion = f"Sorted, by a heap:\n```python\n{SOURCE.format(number=number)}```\n"
            row = {"prompt": "Add.", "completion": completion, "group": number // 8, "tests": tests(number)}
            file.write(json.dumps(row) + "\n")


def reward(backend: str) -> str:
    """Return the reward file."""
    return f"""version: 1
components:
  correct: {{use: code.tests, with: {{score: all, backend: {backend}}}, weight: 1.0}}
"""


@dataclass(frozen=True)
class Run:
    """One measurement."""

    seconds: float
    cpu_s: float
    peak: int
    """Bytes."""


def bare(path: Path, backend: str) -> Run:
    """Measure the same programs in the sandbox alone."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    slots = default_slots()

    def one(row: dict[str, object]) -> bool:
        source = str(row["completion"]).split("```python\n")[1].split("```")[0]
        own: list[dict[str, str]] = row["tests"]  # type: ignore[assignment]
        runs = sandbox.run(Program(source), [Stdin(test["stdin"]) for test in own]).runs
        return all(same_output(run.stdout, test["expected"]) for run, test in zip(runs, own, strict=True))

    with open_sandbox(backend, slots=slots) as sandbox, ThreadPoolExecutor(16) as threads:  # type: ignore[arg-type]
        list(threads.map(one, rows[: 4 * slots]))
        cpu, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        assert all(threads.map(one, rows))
        took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return Run(took, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, psutil.Process().memory_info().rss)


def scored(path: Path, folder: Path, count: int | None = None) -> Run:
    """Measure the same programs in `rewardkit score`."""
    command = [sys.executable, "-m", "rewardkit", "score", str(path), "--reward", str(folder / "reward.yaml")]
    command += ["--out", str(folder / "scored.jsonl"), "--fresh", "--no-cache", "--json"]
    command += ["--limit", str(count)] if count else []
    start = time.perf_counter()
    with (folder / "told").open("w") as told:
        process = psutil.Popen(command, stdout=told, stderr=subprocess.DEVNULL)
        peak, cpu = 0, 0.0
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
                times = process.cpu_times()
                cpu = times.user + times.system
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
    assert process.wait() == 0, (folder / "told").read_text()
    took = time.perf_counter() - start
    summary = json.loads((folder / "told").read_text())
    assert summary["reward"]["mean"] == 1.0, summary
    return Run(took, cpu, peak)


def main() -> int:
    """Print the table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    table = Table(title=f"code.tests, two stdin tests per program, backend {arguments.backend}", title_justify="left")
    for title in ("", "programs/s", "CPU ms/program", "peak memory"):
        table.add_column(title, justify="right" if title else "left")
    failed = False
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "reward.yaml").write_text(reward(arguments.backend))
        for count in arguments.rows:
            write_rows(folder / "rows.jsonl", count)
            rounds = arguments.rounds if count <= 5000 else 1
            alone, whole = [], []
            starts = [scored(folder / "rows.jsonl", folder, 1) for _ in range(3)]
            first = min(run.seconds for run in starts)
            for _ in range(rounds):
                alone.append(bare(folder / "rows.jsonl", arguments.backend))
                whole.append(scored(folder / "rows.jsonl", folder))
            best_alone = min(run.seconds for run in alone)
            best_whole = min(run.seconds for run in whole)
            overhead = (best_whole - first) / best_alone - 1
            failed |= overhead > MAX_OVERHEAD and rounds > 1
            peaks.append(max(run.peak for run in whole))
            table.add_section()
            table.add_row(f"{count:,} rows: bare sandbox", f"{count / best_alone:.0f}", _cpu(alone, count), "")
            peak = f"{peaks[-1] / 1e6:.0f} MB"
            table.add_row("rewardkit score", f"{count / best_whole:.0f}", _cpu(whole, count), peak)
            told = f"{count / (best_whole - first):.0f}"
            rest = f"{1000 * (min(run.cpu_s for run in whole) - min(run.cpu_s for run in starts)) / count:.2f}"
            table.add_row(f"  without its start ({first:.1f} s)", told, rest, "")
            table.add_row("  added by the reward layer", f"{overhead:+.0%}", f"limit {MAX_OVERHEAD:.0%}", "")
    if len(peaks) > 1:
        table.add_section()
        failed |= peaks[-1] > MAX_GROWTH * peaks[0]
        table.add_row("memory, last ÷ first", "", f"limit {MAX_GROWTH}", f"{peaks[-1] / peaks[0]:.2f}")
    Console().print(table)
    return int(failed)


def _cpu(runs: list[Run], count: int) -> str:
    return f"{1000 * min(run.cpu_s for run in runs) / count:.2f}"


if __name__ == "__main__":
    sys.exit(main())
