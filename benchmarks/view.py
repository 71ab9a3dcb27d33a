"""Time until `rewardkit view` shows the first page of a scored file, time of each view of it, and peak memory.

    python benchmarks/view.py [--rows 1000000] [--format parquet|jsonl] [--file SCORED.parquet]

The viewer runs as a process of its own, from a cold start of Python; memory is the highest that the process reached (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 16_384
WORDS = [
    "the",
    "answer",
    "is",
    "therefore",
    "we",
    "add",
    "both",
    "sides",
    "and",
    "get",
    "x",
    "equals",
    "total",
    "cost",
    "divided",
]
TOKEN = "token-of-the-benchmark"  # noqa: S105 - the viewer is reached from this machine only


def write(path: Path, rows: int) -> None:
    """Write a scored file: groups of 8, completions of about 450 characters, two components."""
    rng = np.random.default_rng(0)
    bases = [" ".join(rng.choice(WORDS, 80)) for _ in range(5000)]
    writer = None
    for start in range(0, rows, BATCH):
        numbers = np.arange(start, min(start + BATCH, rows))
        count = len(numbers)
        correct, overlong = rng.integers(0, 2, count).astype(float), rng.normal(-0.1, 0.05, count)
        batch = pa.RecordBatch.from_pydict(
            {
                "prompt": [f"Problem {number // 8}: what is {number // 8} + 1?" for number in numbers],
                "completion": [
                    f"{bases[rng.integers(5000)]} {bases[rng.integers(5000)][:80]} \\boxed{{{number % 97}}}"
                    for number in numbers
                ],
                "group": [f"g{number // 8}" for number in numbers],
                "answer": [str(number % 97) for number in numbers],
                "num_tokens": rng.integers(10, 900, count),
                "reward": correct + overlong / 2,
                "reward_status": ["scored"] * count,
                "reward_id": ["0" * 12] * count,
                "components": pa.StructArray.from_arrays(
                    [_component(correct, 1.0, numbers), _component(overlong, 0.5, numbers)], ["correct", "overlong"]
                ),
            }
        )
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def _component(values: np.ndarray, weight: float, numbers: np.ndarray) -> pa.StructArray:
    count = len(values)
    columns = {
        "value": pa.array(values),
        "weight": pa.repeat(weight, count),
        "contribution": pa.array(values * weight),
        "status": pa.repeat("scored", count),
        "reason": pa.array([f"prediction '{number % 97}' (boxed), reference '{number % 97}'" for number in numbers]),
        "kind": pa.nulls(count, pa.string()),
    }
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def as_lines(path: Path) -> Path:
    """Write a Parquet file's rows as JSON Lines beside it, and return that file."""
    target = path.with_suffix(".jsonl")
    with target.open("wb") as out, pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            out.writelines(orjson.dumps(row) + b"\n" for row in batch.to_pylist())
    return target


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(process: int, name: str) -> float:
    """Return a memory figure of a process."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) / 1000


def described(base: str) -> dict[str, Any]:
    """Return what the viewer says of its file."""
    with urllib.request.urlopen(f"{base}api/state") as state:  # noqa: S310 - the viewer's own address
        return dict(json.load(state)["sources"][0])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["parquet", "jsonl"], default="parquet", help="of the made-up file")
    parser.add_argument("--file", type=Path, help="a scored file instead of a made-up one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "scored.parquet"
        if arguments.file is None:
            write(path, arguments.rows)
        if arguments.file is None and arguments.format == "jsonl":
            path = as_lines(path)
        print(f"{path.stat().st_size / 1e6:.0f} MB of {path.suffix}")
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "rewardkit",
            "view",
            str(path),
            "--port",
            "0",
            "--token",
            TOKEN,
            "--no-browser",
        ]
        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert viewer.stdout is not None
            viewer.stdout.readline()
            base = viewer.stdout.readline().split()[0]

            def ask(name: str, address: str, since: float | None = None) -> None:
                cpu, begin = cpu_seconds(viewer.pid), time.perf_counter()
                with urllib.request.urlopen(base + address) as response:  # noqa: S310 - the viewer's own address
                    response.read()
                wall = time.perf_counter() - (since or begin)
                used = cpu_seconds(viewer.pid) - (0 if since else cpu)
                print(f"{name:34} {wall:6.2f} s  {used:6.2f} CPU s  {megabytes(viewer.pid, 'VmHWM'):6.0f} MB at most")

            with urllib.request.urlopen(base) as page:  # noqa: S310
                page.read()
            ask("first page", "api/0/rows", since=started)
            while "reading" in (source := described(base))["title"]:
                time.sleep(0.05)
            rows = source["rows"]
            ask(f"page once all {rows:,} rows are read", "api/0/rows", since=started)
            ask("page in the middle", f"api/0/rows?offset={rows // 2}")
            ask("one row", f"api/0/row/{rows // 2}")
            ask("sorted by reward", "api/0/rows?sort=-reward")
            wanted = urllib.parse.quote('["component:correct","<",1]')
            ask("filtered and sorted", f"api/0/rows?f={wanted}&sort=-length")
            ask("groups by spread", "api/0/groups?sort=-std")
            ask("distributions", "api/0/summary")
            ask("search in all texts", "api/0/rows?q=divided+by+nothing")
            ask("shared prompts with itself", "api/compare/0/0")
        finally:
            viewer.terminate()
            viewer.wait()


if __name__ == "__main__":
    main()
