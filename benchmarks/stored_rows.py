"""Measures what rendered training rows cost a process: as Python objects, and mapped from a file.

    python benchmarks/stored_rows.py [--rows 4000] [--tokens 1000]

Prints the rise of a process's own (anonymous) memory per token, and the size of the file per token. Linux only; needs the extra train.
"""

from __future__ import annotations

import argparse
import gc
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rewardkit.train.data.stored_rows import StoredRows, write_rows
from rewardkit.train.data.tokenization import Example


def own_memory() -> int:
    """Return the bytes of memory that this process shares with no file."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def examples(rows: int, tokens: int) -> Iterator[Example]:
    """Yield examples with random tokens, of which a fifth are the prompt."""
    draw = random.Random(0)  # noqa: S311 - made-up tokens
    for index in range(rows):
        prompt = tokens // 5
        drawn = tuple(draw.randrange(300, 150_000) for _ in range(tokens))
        yield Example(drawn, prompt, (1.0,) * (tokens - prompt), f"train.jsonl:{index}")


def measure(way: str, file: Path, rows: int, tokens: int) -> float:
    """Return bytes per token: the memory of Python objects or of stored rows, or the size of the file."""
    if way == "file":
        write_rows(file, Example, examples(rows, tokens), {})
        return file.stat().st_size / (rows * tokens)
    write_rows(file.with_suffix(".few"), Example, examples(3, tokens), {})
    list(StoredRows(Example, file.with_suffix(".few")))  # libraries are imported at the first access
    before = own_memory()
    if way == "objects":
        kept: list[Example] | StoredRows[Example] = list(examples(rows, tokens))
    else:
        kept = StoredRows(Example, file)
        for row in kept:
            len(row.tokens)
    rise = own_memory() - before
    return rise / (len(kept) * tokens)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(
            f"{options.only[0]:8} {measure(options.only[0], Path(options.only[1]), options.rows, options.tokens):8.2f}"
        )
        return 0
    print("bytes per token", flush=True)
    with tempfile.TemporaryDirectory(prefix="rewardkit-bench-") as folder:
        for way in ("objects", "file", "stored"):
            sizes = ["--rows", str(options.rows), "--tokens", str(options.tokens)]
            subprocess.run([sys.executable, __file__, "--only", way, f"{folder}/train.arrow", *sizes], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
