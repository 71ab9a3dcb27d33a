"""CPU time of starting the command line, beyond that of a bare Python.

``rewardkit --help`` is what everybody waits for first; it may cost 150 ms of CPU (user + system) more than ``python -c pass``.
The two are run in turns, and the medians are compared, so that a busy machine disturbs both alike.

    python benchmarks/startup.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

RUNS = 15
LIMIT_MS = 150
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import rewardkit": ["-c", "import rewardkit"],
    "rewardkit --help": ["-m", "rewardkit", "--help"],
    "rewardkit --version": ["-m", "rewardkit", "--version"],
    "rewardkit plugins": ["-m", "rewardkit", "plugins"],
    "rewardkit schema": ["-m", "rewardkit", "schema"],
}


def cpu_ms(arguments: list[str]) -> float:
    """User and system time of one run and its children, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """Measure and print; 1 if the limit is broken."""
    for arguments in COMMANDS.values():
        cpu_ms(arguments)  # bytecode is written, files are in memory
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            times[name].append(cpu_ms(arguments))
    bare = statistics.median(times["python -c pass"])
    print(f"CPU time (user + system), median of {RUNS} runs")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:20} {median:7.1f} ms   {median - bare:+7.1f} ms   (from {min(values):.1f} to {max(values):.1f})")
    beyond = statistics.median(times["rewardkit --help"]) - bare
    print(f"rewardkit --help is {beyond:.1f} ms beyond a bare Python; the limit is {LIMIT_MS} ms")
    return int(beyond > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
