"""Programs per second of the sandbox, beside a plain unprotected subprocess and `docker run --rm`, all in one run.

    python benchmarks/sandbox.py                 # the table
    python benchmarks/sandbox.py --soak 10000    # also: does anything grow over so many programs?

The program is a typical one: common imports, a thousand integers from stdin, an answer that is compared by the host.
CPU is that of the whole machine (all processes, kernel included) over the measurement, so a busy machine disturbs it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rewardkit_sandbox import Limits, Program, Sandbox, Stdin, Unavailable, open_sandbox, same_output
from rich.console import Console
from rich.table import Table

SOURCE = """\
import sys, math, heapq, bisect, collections, itertools, functools, re, json, random, string, operator, datetime
from collections import defaultdict, deque, Counter

def main():
    data = list(map(int, sys.stdin.read().split()))
    n, values = data[0], data[1:]
    heap = list(values)
    heapq.heapify(heap)
    total = sum(heapq.heappop(heap) * (i % 3) for i in range(n))
    print(total, max(Counter(values).values()), bisect.bisect_left(sorted(values), 500))

main()
"""


def case(number: int) -> tuple[str, str]:
    """An input and what is expected for it."""
    values = [(number * 7919 + i * i * 31) % 1000 for i in range(1000)]
    ordered = sorted(values)
    total = sum(value * (i % 3) for i, value in enumerate(ordered))
    most = max(values.count(value) for value in set(values))
    return f"1000\n{' '.join(map(str, values))}\n", f"{total} {most} {sum(value < 500 for value in values)}\n"


CASES = [case(number) for number in range(40)]


def machine_cpu_s() -> float:
    """CPU seconds that this machine has spent working since it started."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def measure(one: Callable[[int], None], in_flight: int, seconds: float) -> tuple[float, float]:
    """Programs per second, and CPU seconds per program, with so many in flight for about so long."""
    one(0)
    start, before, done = time.perf_counter(), machine_cpu_s(), 0
    with ThreadPoolExecutor(in_flight) as executor:
        while time.perf_counter() - start < seconds:
            batch = 4 * in_flight if seconds < 3 else 50 * in_flight
            list(executor.map(one, range(done, done + batch)))
            done += batch
    took = time.perf_counter() - start
    return done / took, (machine_cpu_s() - before) / done


def plain(number: int) -> None:
    """One program in a subprocess, without walls."""
    stdin, expected = CASES[number % len(CASES)]
    done = subprocess.run([sys.executable, "-I", "-c", SOURCE], input=stdin, capture_output=True, text=True, check=True)
    assert same_output(done.stdout, expected)


def docker_run(number: int) -> None:
    """One program in a container made for it."""
    stdin, expected = CASES[number % len(CASES)]
    command = [
        "docker",
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--user",
        "65534",
    ]
    command += ["--security-opt", "no-new-privileges", "--pids-limit", "64", "-m", "512m", "rewardkit-sandbox:python"]
    done = subprocess.run(
        [*command, "/usr/bin/python3", "-I", "-c", SOURCE], input=stdin, capture_output=True, text=True, check=True
    )
    assert same_output(done.stdout, expected)


def boxed(sandbox: Sandbox) -> Callable[[int], None]:
    """One program in a warm box."""
    program = Program(SOURCE)

    def one(number: int) -> None:
        stdin, expected = CASES[number % len(CASES)]
        run = sandbox.run(program, [Stdin(stdin)]).runs[0]
        assert same_output(run.stdout, expected), run

    return one


def twenty(sandbox: Sandbox, isolation: str) -> Callable[[int], None]:
    """One program with twenty tests."""
    program = Program(SOURCE)

    def one(number: int) -> None:
        chosen = [CASES[(number + i) % len(CASES)] for i in range(20)]
        runs = sandbox.run(program, [Stdin(stdin) for stdin, _ in chosen], isolation=isolation).runs  # type: ignore[arg-type]
        assert all(same_output(run.stdout, expected) for run, (_, expected) in zip(runs, chosen, strict=True))

    return one


def slot_memory_mb(sandbox: Sandbox) -> float:
    """Proportional set size of each box's fork server on the host, the mean over boxes."""
    sizes = []
    for folder in Path("/proc").iterdir():
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if b"-P" in arguments and any(b"The first thing that runs in the box" in text for text in arguments):
                rollup = (folder / "smaps_rollup").read_text()
                sizes.append(next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")))
        except (OSError, StopIteration):
            continue
    return sum(sizes) / max(len(sizes), 1) / 1024 if sandbox.pool.size else 0.0


def state() -> dict[str, int]:
    """What could grow: this process's memory (KiB) and descriptors, mounts, processes of the machine."""
    rss = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    containers = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=False).stdout.split()
    return {
        "memory KiB": rss,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "containers": len(containers),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="per measurement")
    parser.add_argument("--soak", type=int, default=0, help="programs to run in a row while watching for growth")
    options = parser.parse_args()
    console = Console()
    table = Table("way", "in flight", "programs/s", "CPU ms", "× plain", title="one program, one test")
    more = Table(
        "backend", "isolation", "tests/s (2 programs in flight)", "CPU ms per test", title="one program, twenty tests"
    )
    facts = Table("backend", "start of the pool", "memory of a box", title="boxes")
    base: dict[int, float] = {}
    for in_flight in (1, 2, 4):
        base[in_flight], cpu = measure(plain, in_flight, options.seconds)
        table.add_row("plain python -I", str(in_flight), f"{base[in_flight]:.0f}", f"{1000 * cpu:.1f}", "1.0")
    try:
        rate, cpu = measure(docker_run, 2, min(options.seconds, 2.9))
        table.add_row("docker run --rm", "2", f"{rate:.1f}", f"{1000 * cpu:.0f}", f"{rate / base[2]:.2f}")
    except (OSError, subprocess.CalledProcessError) as error:
        console.print(f"docker run: {error}")
    for backend in ("docker", "bubblewrap"):
        start = time.perf_counter()
        try:
            sandbox = open_sandbox(backend, slots=4, limits=Limits(cpu_s=10))
        except Unavailable as error:
            console.print(f"{backend}: {error}")
            continue
        with sandbox:
            started = time.perf_counter() - start
            for in_flight in (1, 2, 4):
                rate, cpu = measure(boxed(sandbox), in_flight, options.seconds)
                table.add_row(
                    backend, str(in_flight), f"{rate:.0f}", f"{1000 * cpu:.1f}", f"{rate / base[in_flight]:.1f}"
                )
            for isolation in ("fresh", "shared"):
                rate, cpu = measure(twenty(sandbox, isolation), 2, min(options.seconds, 2.9))
                more.add_row(backend, isolation, f"{20 * rate:.0f}", f"{1000 * cpu / 20:.2f}")
            facts.add_row(backend, f"{started:.2f} s for 4", f"{slot_memory_mb(sandbox):.1f} MB")
            if options.soak:
                one = boxed(sandbox)
                with ThreadPoolExecutor(4) as executor:
                    list(executor.map(one, range(500)))
                    before = state()
                    for done in range(0, options.soak, 500):
                        list(executor.map(one, range(done, done + 500)))
                after = state()
                grown = ", ".join(f"{key} {before[key]} → {after[key]}" for key in before)
                console.print(f"{backend}: after {options.soak} programs: {grown}")
    for each in (table, more, facts):
        console.print(each)


if __name__ == "__main__":
    main()
