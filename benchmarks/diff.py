"""Time and memory of ``rewardkit diff`` on two scored files: ``python benchmarks/diff.py [--rows 1000000]``."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write(path: Path, rows: int, seed: int) -> None:
    """Write a scored file of groups of eight, with two components and completions of some 400 characters."""
    rng = np.random.default_rng(seed)
    correct = rng.integers(0, 2, rows).astype(float)
    style = rng.random(rows)
    parts = [
        pa.StructArray.from_arrays(
            [pa.array(values), pa.array(["scored"] * rows), pa.array(["the reason"] * rows)],
            ["value", "status", "reason"],
        )
        for values in (correct, style)
    ]
    table = pa.table(
        {
            "prompt": [f"prompt {row // 8}" for row in range(rows)],
            "completion": [f"completion {row} " * 25 for row in range(rows)],
            "reward": correct + 0.2 * style,
            "components": pa.StructArray.from_arrays(parts, ["correct", "style"]),
        }
    )
    pq.write_table(table, path, row_group_size=50_000)


def main() -> None:
    """Write the files, run the command, print its time and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        a, b = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        # In a process of its own, so that its memory is not counted.
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import diff; "
            f"from pathlib import Path; diff.write(Path(sys.argv[1]), {rows}, int(sys.argv[2]))"
        )
        for seed, path in enumerate((a, b)):
            subprocess.run([sys.executable, "-c", code, str(path), str(seed)], check=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        script = (
            "import resource, sys; from rewardkit.cli import run; code = run(['diff', *sys.argv[1:], '--json']); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(a), str(b)], check=True, capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{rows:,} rows: {seconds:.1f} s, {cpu:.1f} CPU s, peak {done.stderr.split()[-1]} MiB")


if __name__ == "__main__":
    main()
