"""Runs one program of attacks.json on a sandbox and tells what did not hold. Used by the tests; no test itself."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from rewardkit_sandbox import Call, Limits, Program, Stdin, Tests, same_output, same_value, split_assertion


class Canaries:
    """Targets that no program may see or reach: a host file, an environment variable, two listeners."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="canary-"))
        self.file_text = "RKFILE" + secrets.token_hex(8)
        self.environment_text = "RKENV" + secrets.token_hex(8)
        self.paths = [
            self.folder / "canary",
            Path("/var/tmp") / f"canary-{secrets.token_hex(4)}",
            Path.home() / f".canary-{secrets.token_hex(4)}",
        ]
        for path in self.paths:
            path.write_text(self.file_text)
        os.environ["RK_CANARY"] = self.environment_text
        self.touched = []
        self.port = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self._listen(socket.AF_UNIX, "\0rk_canary")

    def _listen(self, family, address):
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind(address)
        server.listen()
        self.servers = [*getattr(self, "servers", []), server]

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                self.touched.append(address)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        return server

    def close(self):
        del os.environ["RK_CANARY"]
        for server in self.servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        for path in self.paths:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def fill(value, canaries, persist):
    """A problem with fresh tokens in the place of its variables."""
    text = json.dumps(value)
    for number in range(8):
        text = text.replace(f"$TOK{number}", "RKTOK" + secrets.token_hex(8))
    known = {
        "$CANARY_PATHS": "\n".join(map(str, canaries.paths)),
        "$CANARY_FILE": canaries.file_text,
        "$CANARY_ENV": canaries.environment_text,
        "$PERSIST": persist,
        "$PROBE_STDIN": f"{canaries.port}\n",
        "$RANGE60000": "\n".join(map(str, range(60000))) + "\n",
    }
    for name, replacement in known.items():
        text = text.replace(name, json.dumps(replacement)[1:-1])
    return json.loads(text)


def verdict_on(sandbox, code, problem, limits, way):
    """Pass or fail, with the longest wall time of a test and the reasons."""
    program, kind = Program(code), problem["kind"]
    isolation = "shared" if way == "shared" else "fresh"

    def stop(_, run):
        return run.status == "time_limit"  # one such test is enough

    start = time.monotonic()
    if kind == "assert" and way == "unit_tests":
        verdict = sandbox.run_tests(program, Tests("\n".join(problem["tests"])), limits)
        return verdict.passed, time.monotonic() - start, verdict.reason
    if kind == "stdin":
        result = sandbox.run(
            program, [Stdin(test["stdin"]) for test in problem["tests"]], limits, isolation=isolation, stop=stop
        )
        tolerance = problem.get("compare", {}).get("float_tol")
        passes = [
            run.ok and same_output(run.stdout, test["expected"], float_tolerance=tolerance)
            for run, test in zip(result.runs, problem["tests"], strict=True)
        ]
    elif kind == "call":
        calls = [Call(problem["fn"], tuple(test["args"])) for test in problem["tests"]]
        result = sandbox.run(program, calls, limits, isolation=isolation, stop=stop)
        passes = [
            run.ok and same_value(run.value, test["expected"], types="strict")
            for run, test in zip(result.runs, problem["tests"], strict=True)
        ]
    else:
        assertions = [split_assertion(test) for test in problem["tests"]]
        calls = [call for assertion in assertions for call in assertion.calls]
        result = sandbox.run(program, calls, limits, isolation=isolation, stop=stop)
        passes, left = [], list(result.runs)
        for assertion in assertions:
            runs, left = left[: len(assertion.calls)], left[len(assertion.calls) :]
            passes.append(assertion.holds(runs))
    wall = max(run.wall_s for run in result.runs) if isolation == "fresh" else (time.monotonic() - start) / len(passes)
    return bool(passes) and all(passes), wall, [(run.status, run.note, run.text[:80]) for run in result.runs]


def processes(name):
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "comm").read_text().strip() == name:
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def breaches(sandbox, attack, problems, canaries, limits, way="fresh"):
    """Return the failed expectations of an attack, as sentences; empty if all hold."""
    must, wrong = attack["must"], []
    persist = "RKPERSIST" + secrets.token_hex(8)
    free = shutil.disk_usage("/").free
    canaries.touched.clear()
    for name in attack["problem"]:
        problem = fill(problems[name], canaries, persist)
        if way == "unit_tests" and problem["kind"] != "assert":
            continue
        passed, wall, why = verdict_on(sandbox, attack["code"], problem, limits, way)
        if must["verdict"] != "any" and passed != (must["verdict"] == "pass"):
            wrong.append(f"{name}: {'passed' if passed else 'failed'}: {why}")
        if wall > must["max_wall_s"]:
            wrong.append(f"{name}: took {wall:.1f} s a test")
        if attack.get("followup"):
            follow = attack["followup"]
            code, key = (
                (follow, "persist_r")
                if isinstance(follow, str)
                else (follow["code"], follow.get("problem", "persist_r"))
            )
            passed, _, why = verdict_on(sandbox, code, fill(problems[key], canaries, persist), limits, way)
            if passed:
                wrong.append(f"{name}: the next program found what was left: {why}")
        passed, _, why = verdict_on(
            sandbox, "a, b = map(int, input().split())\nprint(a + b)\n", problems["add_stdin"], limits, "fresh"
        )
        if not passed:
            wrong.append(f"{name}: the next program failed: {why}")
    for check in must["host"]:
        if check.startswith("absent:") and Path(check[7:]).exists():
            wrong.append(f"{check[7:]} is on the host")
        if check.startswith("nocomm:") and processes(check[7:]):
            wrong.append(f"{check[7:]} still runs")
        if check.startswith("disk_delta_mb<") and (free - shutil.disk_usage("/").free) >> 20 > int(check.split("<")[1]):
            wrong.append("the host's disk filled")
        if check == "listener" and canaries.touched:
            wrong.append(f"reached {canaries.touched}")
    return wrong


def limits_of(data):
    row = data["limits"]
    return Limits(cpu_s=row["cpu_s"], wall_s=row["wall_s"], memory_mb=row["mem_mb"], processes=row["pids"],
                  output_bytes=row["out_bytes"], scratch_mb=row["tmp_mb"])  # fmt: skip
