"""Measures the speed and the memory of ``rewardkit score``, next to a loop that scores nothing.

    python benchmarks/score_throughput.py [--rows 1000000] [--rounds 2]

Writes rows of about 1 kB (prompts in groups of 8), scores them with a format and a length reward from JSON Lines to Parquet,
and in the same run copies them by the plainest loop there is: orjson for each line, ``pyarrow.Table.from_pylist`` and a
ParquetWriter. Prints the best of the rounds of both, their ratio (limit: 2.2; of CPU time 3.5), and the peak memory of the whole process
tree (limit: 450 MB), for 10,000 and 100,000 rows too: small input stays in one process, and any larger takes the same.
Exits with 1 where a limit is missed. Needs the extras format and length, and psutil.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

MAX_RATIO = 2.2
MAX_CPU_RATIO = 3.5
MAX_BYTES = 450_000_000
REWARD = """version: 1
components:
  format:   {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}
  overlong: {use: length.overlong, with: {max_tokens: 1024, buffer: 256}, weight: 0.5}
"""
BARE = """
import sys, orjson, pyarrow as pa, pyarrow.parquet as pq
rows, writer = [], None
def flush():
    global rows, writer
    table = pa.Table.from_pylist(rows)
    writer = writer or pq.ParquetWriter(sys.argv[2], table.schema)
    writer.write_table(table)
    rows = []
with open(sys.argv[1], "rb") as file:
    for line in file:
        rows.append(orjson.loads(line))
        if len(rows) == 32768:
            flush()
if rows:
    flush()
writer.close()
"""


def write_rows(path: Path, count: int) -> None:
    """Rows of about 1 kB: eight completions for each prompt, one in four without its tags."""
    chance = random.Random(0)  # noqa: S311 - made-up text
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
    with path.open("wb") as file:
        prompt = ""
        for index in range(count):
            if index % 8 == 0:
                prompt = " ".join(chance.choices(words, k=25))
            text = " ".join(chance.choices(words, k=100))
            completion = f"<think>{text}</think>\n<answer>{index % 7}</answer>" if index % 4 else text
            row = {
                "prompt": prompt,
                "completion": completion,
                "num_tokens": chance.randint(50, 1500),
                "answer": str(index % 7),
                "data_source": "synthetic",
                "id": index,
            }
            file.write(orjson.dumps(row) + b"\n")


def measure(arguments: list[str]) -> tuple[float, float, int]:
    """Run a program; gives seconds, seconds of CPU, and the peak of the memory of it and its children."""
    start = time.perf_counter()
    process = psutil.Popen([sys.executable, *arguments], stderr=subprocess.PIPE)
    peak = 0
    spent: dict[int, float] = {}
    while process.poll() is None:
        total = 0
        for member in [process, *_children(process)]:
            try:
                total += member.memory_info().rss
                times = member.cpu_times()
                spent[member.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.stderr.read().decode())
    return seconds, sum(spent.values()), peak


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return children


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", help="as rewardkit score takes it; by default its own default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rewardkit-bench-") as name:
        folder = Path(name)
        reward, rows, some, out = (folder / file for file in ("reward.yaml", "rows.jsonl", "some.jsonl", "out.parquet"))
        reward.write_text(REWARD)
        write_rows(rows, options.rows)
        print(f"{options.rows:,} rows of {rows.stat().st_size / options.rows:,.0f} bytes on {psutil.cpu_count()} cores")
        score = ["-m", "rewardkit", "score", "--reward", str(reward), "--out", str(out), "--fresh", "--no-cache"]
        if options.workers:
            score += ["--workers", options.workers]
        bare_runs, score_runs = [], []
        for _ in range(options.rounds):
            bare_runs.append(measure(["-c", BARE, str(rows), str(folder / "bare.parquet")]))
            score_runs.append(measure([*score, str(rows)]))
        smaller = {}
        for count in (10_000, 100_000):
            write_rows(some, count)
            smaller[count] = measure([*score, str(some)])
    bare, scored = min(bare_runs), min(score_runs)
    for label, run in (("bare loop", bare), ("rewardkit score", scored)):
        rate = options.rows / run[0]
        print(f"{label:16} {run[0]:7.1f} s  {rate:9,.0f} rows/s  {run[1]:7.1f} s CPU  {run[2] / 1e6:6.0f} MB peak")
    for count, run in smaller.items():
        print(f"{f'{count:,} rows':16} {run[0]:7.1f} s  {'':16} {run[1]:7.1f} s CPU  {run[2] / 1e6:6.0f} MB peak")
    ratio, peak = scored[0] / bare[0], max(run[2] for run in score_runs)
    cpu_ratio = min(run[1] for run in score_runs) / min(run[1] for run in bare_runs)
    print(f"ratio {ratio:.2f} (limit {MAX_RATIO:g}), of CPU time {cpu_ratio:.2f} (limit {MAX_CPU_RATIO:g})")
    print(f"peak {peak / 1e6:.0f} MB (limit {MAX_BYTES / 1e6:.0f} MB)")
    return int(ratio > MAX_RATIO or cpu_ratio > MAX_CPU_RATIO or peak > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
