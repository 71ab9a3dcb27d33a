"""How many requests a second `rewardkit serve` answers on this machine, and what it adds to the time of scoring.

    python benchmarks/serve.py [--seconds 10] [--connections 32]

Starts the service with a math reward on the loopback interface and sends it one rollout a request, first as fast as it answers, then at
half that rate on a fixed schedule. The load generator shares the machine's cores with the service. The overhead is the time from the
scheduled start of a request to its answer, less the mean time that scoring one rollout takes in Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rewardkit import Rollout, load_reward

REWARD = "version: 1\ncomponents:\n  correct: {use: math, with: {reference: answer}}\n"


def rows(count: int) -> list[dict[str, str]]:
    """Distinct rows, half of them right."""
    return [
        {"prompt": f"What is {n}/7?", "completion": f"Thus \\boxed{{\\frac{{{n + n % 2}}}{{7}}}}.", "answer": f"{n}/7"}
        for n in range(count)
    ]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send a request over a kept connection; returns the body of its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200"), head
    assert found, head
    return await reader.readexactly(int(found[1]))


def requests(port: int, count: int, path: str) -> list[bytes]:
    """The bytes of requests."""
    made = []
    for row in rows(count):
        body = json.dumps({"rows": [row]}).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        made.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return made


async def load(port: int, connections: int, seconds: float, rate: float | None) -> list[float]:
    """Seconds that each request took; with a rate, from its place on the schedule."""
    sent = requests(port, 4096, "/score")
    took: list[float] = []
    begin = time.perf_counter()
    turn = 0

    async def client() -> None:
        nonlocal turn
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (now := time.perf_counter()) < begin + seconds:
            number, turn = turn, turn + 1
            start = now
            if rate is not None:
                start = begin + number / rate
                if start > begin + seconds:
                    break
                await asyncio.sleep(max(0.0, start - now))
                start = max(start, begin)
            answer = await ask(reader, writer, sent[number % len(sent)])
            took.append(time.perf_counter() - start)
            assert b'"reward_status":"scored"' in answer, answer
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return took


def percentile(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far: unlike requests a second, hardly changed by whatever else runs on the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reward.yaml")
        file.write_text(REWARD)
        with load_reward(file) as reward:
            data = [Rollout(row["prompt"], row["completion"], {"answer": row["answer"]}) for row in rows(2000)]
            reward.score(data[:10])
            begin = time.perf_counter()
            for rollout in data:
                reward.score([rollout])
            alone = (time.perf_counter() - begin) / len(data)
        print(f"in Python, one rollout a call: {1 / alone:,.0f}/s ({1000 * alone:.2f} ms each)")
        command = [sys.executable, "-m", "rewardkit", "serve", str(file), "--port", "0", "--no-cache"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                found = re.search(r":(\d+)$", process.stderr.readline().strip())
                assert found
                port = int(found[1])
                run: Callable[[float, float | None], list[float]] = lambda seconds, rate: asyncio.run(  # noqa: E731
                    load(port, options.connections, seconds, rate)
                )
                run(2.0, None)
                before = cpu_seconds(process.pid)
                full = run(options.seconds, None)
                cpu = (cpu_seconds(process.pid) - before) / len(full)
                rate = len(full) / options.seconds
                print(
                    f"over HTTP, one rollout a request: {rate:,.0f}/s, median {1000 * statistics.median(full):.1f} ms"
                )
                print(f"CPU time of the service: {1000 * cpu:.2f} ms a request ({1 / cpu:,.0f}/s on a core of its own)")
                half = run(options.seconds, rate / 2)
                print(
                    f"at half that rate: median {percentile(half, 0.5):.1f} ms, p99 {percentile(half, 0.99):.1f} ms; "
                    f"overhead at p99 {percentile(half, 0.99) - 1000 * alone:.1f} ms"
                )
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
