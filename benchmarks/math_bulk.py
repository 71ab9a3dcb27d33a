"""`rewardkit score` with the reward `math` in bulk, while worker processes are killed at random: nothing is lost.

    python benchmarks/math_bulk.py [--rows 100000] [--rare 500] [--every 2] [--calm] [--seed 0]

Writes rows made from the labelled data (`../shared/data` beside the repository, or REWARDKIT_DATA; without it, from the plugin's own
test cases), one in --rare with an integral that only sympy decides, and scores them with two workers. Meanwhile a process chosen at
random among all that the command has started gets SIGKILL every --every seconds or so; where that ends the command itself, it is given
again, and goes on where it was. At the end every row must be there once, in order, with the verdict that `verify` gives undisturbed; a
row over which workers were killed three times may be unscored (`infra`), and no row may be scored wrongly. Prints rows per second, the
CPU time of all processes as a share of the wall clock (2.0: both cores, on a machine that does nothing else) and of the three busiest
alone, kills and restarts. Exits with 1 where something is missing or
wrong. --calm kills nothing. Needs psutil.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rewardkit_math import verify

TESTS = Path(__file__).resolve().parents[1] / "plugins" / "math" / "tests"
REWARD = "version: 1\ncomponents:\n  correct: {use: math, with: {reference: answer, deadline_s: 20}}\n"
Pair = tuple[str, str]


def pairs() -> list[Pair]:
    """Completions with their references."""
    spec = importlib.util.spec_from_file_location("math_data", TESTS / "math_data.py")
    assert spec is not None
    assert spec.loader is not None
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    found: list[Pair] = []
    for name in ("gsm8k", "cot", "math5000_derived"):
        found += [(p, r) for p, r, _, _ in data.cases(name) or ()]
    if not found:
        with (TESTS / "cases.jsonl").open(encoding="utf-8") as file:
            found = [(c["prediction"], c["reference"]) for c in map(json.loads, file)]
    random.Random(0).shuffle(found)  # noqa: S311 - rows of all kinds beside one another
    return found


def question(index: int, found: list[Pair], rare: int) -> Pair:
    """The completion and the reference of a row; one in `rare` is an integral."""
    if rare and index % rare == rare // 2:
        power = index % 7 + 1
        return rf"It is \boxed{{\int_0^1 x^{{{power}}}\,dx}}", rf"\frac{{1}}{{{power + 1 + index % 2}}}"
    return found[index % len(found)]


def killer(root: int, stop: threading.Event, seed: int, every_s: float, counts: list[int]) -> None:
    """Kill a process below `root` every so many seconds, at random moments."""
    chance = random.Random(seed)  # noqa: S311
    while not stop.wait(chance.uniform(0.5, 1.5) * every_s):
        try:
            below = psutil.Process(root).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        if below:
            try:
                chance.choice(below).send_signal(signal.SIGKILL)
                counts[0] += 1
            except psutil.NoSuchProcess:
                continue


def watch(root: int, stop: threading.Event, spent: dict[int, float]) -> None:
    """Note the CPU seconds of every process of the command, whether or not anyone waits for its end."""
    while not stop.wait(0.1):
        try:
            top = psutil.Process(root)
            processes = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[process.pid] = times.user + times.system


def score(command: list[str], arguments: argparse.Namespace) -> tuple[float, list[float], int, int]:
    """Wall seconds, CPU seconds of each process, kills, and how often the command had to be given again."""
    kills, restarts = [0], -1
    spent: dict[int, float] = {}
    started = time.monotonic()
    code = None
    while code != 0:
        restarts += 1
        if restarts > 20:
            raise SystemExit("given up: the command ended 20 times")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        stop = threading.Event()
        seed = arguments.seed + 1000 * restarts
        threads = [threading.Thread(target=watch, args=(process.pid, stop, spent))]
        if not arguments.calm:
            threads.append(threading.Thread(target=killer, args=(process.pid, stop, seed, arguments.every, kills)))
        for thread in threads:
            thread.start()
        _, errors = process.communicate()
        code = process.returncode
        stop.set()
        for thread in threads:
            thread.join()
        if code:
            print(f"  ended with {code}: {errors.strip().splitlines()[-1:]}")
    return time.monotonic() - started, sorted(spent.values(), reverse=True), kills[0], restarts


def main() -> int:
    """Score the rows, and compare every score with the expected one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rare", type=int, default=500, help="one row in this many needs sympy; 0: none (default %(default)s)"
    )
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills (default %(default)s)")
    parser.add_argument("--calm", action="store_true", help="kill nothing")
    arguments = parser.parse_args()
    found = pairs()
    with tempfile.TemporaryDirectory() as folder:
        source, reward, out = (Path(folder) / name for name in ("rows.jsonl", "reward.yaml", "scored.jsonl"))
        reward.write_text(REWARD, encoding="utf-8")
        with source.open("w", encoding="utf-8") as file:
            for index in range(arguments.rows):
                completion, answer = question(index, found, arguments.rare)
                row = {"id": index, "prompt": f"Problem {index}", "completion": completion, "answer": answer}
                file.write(json.dumps(row) + "\n")
        command = [sys.executable, "-m", "rewardkit", "score", str(source), "--reward", str(reward), "--out", str(out)]
        wall, cpu, kills, restarts = score([*command, "--workers", "2", "--no-cache"], arguments)
        with out.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    right: dict[Pair, float | None] = {}
    wrong = unscored = 0
    for index, row in enumerate(rows):
        pair = question(row["id"], found, arguments.rare)
        if pair not in right:
            verdict = verify(*pair, deadline_s=20)
            right[pair] = None if verdict.correct is None else float(verdict.correct)
        unscored += row["reward"] is None and right[pair] is not None
        wrong += row["id"] != index or (row["reward"] is not None and row["reward"] != right[pair])
    busiest = ", ".join(f"{seconds:.1f} s" for seconds in cpu[:3])
    print(
        f"{len(rows):,} of {arguments.rows:,} rows in {wall:.1f} s: {arguments.rows / wall:,.0f}/s, CPU {sum(cpu) / wall:.2f} of "
        f"{os.cpu_count()} cores (the busiest processes: {busiest}), {kills} processes killed, command given again "
        f"{restarts} times, {wrong} wrong or out of order, {unscored} unscored that need not be"
    )
    return int(len(rows) != arguments.rows or wrong > 0 or unscored > arguments.rows // 1000)


if __name__ == "__main__":
    sys.exit(main())
