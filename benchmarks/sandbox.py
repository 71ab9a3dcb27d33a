"""Programs per second of the sandbox, beside a plain unprotected subprocess and `docker run --rm`, all in one run.

    python benchmarks/sandbox.py                 # the table
    python benchmarks/sandbox.py --soak 10000    # instead: does anything grow over so many programs?

The program is a typical one: common imports, a thousand integers from stdin, an answer that is compared by the host.
CPU is that of this process, of the plain subprocesses, or of the boxes with all that ran in them. For `docker run` it is that of the
whole machine, which a busy machine disturbs. Rates are only meaningful on an idle machine; CPU is, within limits, on a busy one too, if
it is compared with the plain subprocess's in the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rewardkit_sandbox import Limits, Program, Sandbox, Stdin, Unavailable, open_sandbox, same_output
from rewardkit_sandbox.host import box_ownership
from rich.console import Console
from rich.progress import track
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
    """An input with the expected output."""
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


def own_cpu_s() -> float:
    """CPU seconds of this process and of the subprocesses that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def boxes_cpu_s(sandbox: Sandbox) -> Callable[[], float]:
    """Return a function that gives the CPU seconds of this process and of a sandbox's boxes with all processes that ended in them."""
    boxes = servers(sandbox)

    def read() -> float:
        ticks = [sum(map(int, (box / "stat").read_text().rpartition(")")[2].split()[11:15])) for box in boxes]
        return own_cpu_s() + sum(ticks) / os.sysconf("SC_CLK_TCK")

    return read


def page_faults(sandbox: Sandbox) -> int:
    """Memory pages that a sandbox's boxes, with all processes that ended in them, have copied or mapped at their first touch."""
    return sum(sum(map(int, (box / "stat").read_text().rpartition(")")[2].split()[7:9])) for box in servers(sandbox))


def measure(
    one: Callable[[int], None], in_flight: int, seconds: float, cpu_s: Callable[[], float] = own_cpu_s
) -> tuple[float, float]:
    """Programs per second, and CPU seconds per program, with so many in flight for about so long."""
    one(0)
    start, before, done = time.perf_counter(), cpu_s(), 0
    with ThreadPoolExecutor(in_flight) as executor:
        while time.perf_counter() - start < seconds:
            batch = 4 * in_flight if seconds < 3 else 50 * in_flight
            list(executor.map(one, range(done, done + batch)))
            done += batch
    took = time.perf_counter() - start
    return done / took, (cpu_s() - before) / done


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


def servers(sandbox: Sandbox) -> list[Path]:
    """The fork server of each of this process's boxes, as a folder in /proc."""
    if sandbox.description.startswith("docker"):
        ours = ["docker", "ps", "-q", "--filter", f"label=rewardkit.sandbox.owner={box_ownership.label()}"]
        names = subprocess.run(ours, capture_output=True, text=True, check=True).stdout.split()
        inspect = ["docker", "inspect", "-f", "{{.State.Pid}}", *names]
        pids = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.split()
        return [Path("/proc", pid) for pid in pids]
    parents = {box.name.split()[1] for box in sandbox.pool._boxes}  # noqa: SLF001
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent in parents:
            found.append(folder)
    return found


def memory_mib(folder: Path) -> float:
    """Proportional set size of a process."""
    rollup = (folder / "smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def state(sandbox: Sandbox) -> dict[str, float]:
    """Return the resources of this process and of its boxes that a leak would increase."""
    boxes = servers(sandbox)
    groups = [
        folder
        for folder in Path("/sys/fs/cgroup").glob("*/rewardkit-sandbox/*")
        if box_ownership.label() in folder.name
    ]
    return {
        "memory of this process, MiB": memory_mib(Path("/proc/self")),
        "its descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "its threads": len(list(Path("/proc/self/task").iterdir())),
        "boxes": len(boxes),
        "their memory, MiB": sum(map(memory_mib, boxes)),
        "their descriptors": sum(len(list((box / "fd").iterdir())) for box in boxes),
        "their mounts": sum(len((box / "mountinfo").read_text().splitlines()) for box in boxes),
        "control groups": len(groups),
        "replaced boxes": sandbox.pool.replaced,
    }


GROWTH = {"memory of this process, MiB": 4.0, "their memory, MiB": 4.0}
"""The largest increase of each resource in a soak test. Other resources must not increase."""


def soak(backend: str, programs: int, console: Console) -> bool:
    """Runs so many programs in four boxes and tells what grew; whether all stayed within limits."""
    with (
        open_sandbox(backend, slots=4, limits=Limits(cpu_s=10, wall_s=120)) as sandbox,
        ThreadPoolExecutor(4) as executor,
    ):
        one = boxed(sandbox)
        list(executor.map(one, range(1000)))
        before, start = state(sandbox), time.perf_counter()
        for done in track(range(0, programs, 500), f"{backend}: {programs:,} programs", console=Console(stderr=True)):
            list(executor.map(one, range(done, min(done + 500, programs))))
        took = time.perf_counter() - start
        after = state(sandbox)
    table = Table(
        "", "before", "after", "grew by", "may grow by", title=f"{backend}: {programs:,} programs in {took:.0f} s"
    )
    kept = True
    for name, was in before.items():
        grown, most = after[name] - was, GROWTH.get(name, 0)
        kept &= grown <= most
        table.add_row(
            name, f"{was:.4g}", f"{after[name]:.4g}", f"{grown:.4g}", f"{most:g}", style="" if grown <= most else "red"
        )
    console.print(table)
    return kept


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="per measurement")
    parser.add_argument("--soak", type=int, default=0, help="only run so many programs, and tell what grew")
    options = parser.parse_args()
    console = Console()
    if options.soak:
        kept = [soak(backend, options.soak, console) for backend in ("docker", "bubblewrap")]
        sys.exit(0 if all(kept) else 1)
    table = Table("way", "in flight", "programs/s", "CPU ms", "× plain", title="one program, one test")
    more = Table(
        "backend",
        "isolation",
        "tests/s (2 programs in flight)",
        "CPU ms per test",
        "of plain's CPU",
        "pages per test",
        title="one program, twenty tests",
    )
    facts = Table("backend", "start of the pool", "memory of a box", title="boxes")
    base: dict[int, float] = {}
    plain_cpu = 0.0
    for in_flight in (1, 2, 4):
        base[in_flight], cpu = measure(plain, in_flight, options.seconds)
        plain_cpu = cpu if in_flight == 2 else plain_cpu
        table.add_row("plain python -I", str(in_flight), f"{base[in_flight]:.0f}", f"{1000 * cpu:.1f}", "1.0")
    try:
        rate, cpu = measure(docker_run, 2, min(options.seconds, 2.9), machine_cpu_s)
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
            cpu_s = boxes_cpu_s(sandbox)
            for in_flight in (1, 2, 4):
                rate, cpu = measure(boxed(sandbox), in_flight, options.seconds, cpu_s)
                table.add_row(
                    backend, str(in_flight), f"{rate:.0f}", f"{1000 * cpu:.1f}", f"{rate / base[in_flight]:.1f}"
                )
            for isolation in ("fresh", "shared"):
                one = twenty(sandbox, isolation)
                rate, cpu = measure(one, 2, min(options.seconds, 2.9), cpu_s)
                before = page_faults(sandbox)
                for number in range(5):
                    one(number)
                pages, share = (page_faults(sandbox) - before) / 100, cpu / 20 / plain_cpu
                figures = [f"{20 * rate:.0f}", f"{1000 * cpu / 20:.2f}", f"{share:.3f}", f"{pages:.0f}"]
                more.add_row(backend, isolation, *figures)
            facts.add_row(backend, f"{started:.2f} s for 4", f"{sum(map(memory_mib, servers(sandbox))) / 4:.1f} MiB")
    for each in (table, more, facts):
        console.print(each)


if __name__ == "__main__":
    main()
