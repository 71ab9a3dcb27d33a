"""The sandbox over a pool of boxes on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Self, TypeVar

from rewardkit_sandbox import languages
from rewardkit_sandbox.errors import BoxDied, Closed, SandboxError
from rewardkit_sandbox.host import shared_process
from rewardkit_sandbox.host.box_config import ENVIRONMENT
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.host.case_runner import CaseRunner, ProgramCode, run_case
from rewardkit_sandbox.host.exchange import Job, Outcome, memory_file
from rewardkit_sandbox.host.pool import Pool
from rewardkit_sandbox.languages import Language
from rewardkit_sandbox.protocol import Stop
from rewardkit_sandbox.types import Call, Case, Execution, Isolation, Limits, Program, Result, Tests, Verdict
from rewardkit_sandbox.verdicts import unit_tests

T = TypeVar("T")
ATTEMPTS = 5
"""The number of boxes that a program may kill before its run fails with an error."""
COMPILE_LIMITS = Limits(cpu_s=30, wall_s=60, memory_mb=1024, processes=64, file_mb=128, output_bytes=1 << 16)
_BINARIES_BYTES = 64 << 20
"""Bytes of compiled programs that are kept for their next run."""
SKIPPED = Execution("not_run", note="an earlier case decided")


class PooledSandbox:
    """A `Sandbox` that runs programs in a pool of sandbox processes ("boxes").

    Use it as a context manager, or call `close`. The boxes also end if the process that owns them ends or is killed.

    Args:
        pool: The boxes.
        limits: The limits of a call that gives none, and the highest limits that a call can ask for.
        description: The backend, and why it was chosen.
    """

    def __init__(self, pool: Pool, limits: Limits, description: str = "") -> None:
        self.pool = pool
        self.size = pool.size
        self.limits = limits
        """The limits of a call that gives none, and the most that a call can ask for."""
        self.description = description
        """The backend, and why it was chosen."""
        self._binaries: OrderedDict[bytes, tuple[bytes, Execution]] = OrderedDict()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all boxes; calls that wait or run raise `Closed`."""
        with self._lock:
            self._closed = True
            executor = self._executor
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        self.pool.close()

    def run(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """Run a program on each case and return the runs in the order of the cases.

        Args:
            program: The source and its language.
            cases: Inputs and calls. Expected results never enter the sandbox.
            limits: The limits of each case; by default those of the sandbox. A compile step has its own limits.
            isolation: `fresh` runs each case in a new process. `shared` runs all cases of a Python program in one process, with new
                globals for each, which is several times faster. There a case can affect later ones through modules and files; a
                case that fails is run again in a new process.
            stop: Called after each case. If it returns True, the remaining cases are not run and become `not_run`.

        Raises:
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The request is not valid: an unknown language, or limits above the sandbox's.
        """
        limits = self._checked(limits)
        language = languages.find(program.language)
        if language.name != "python" and any(isinstance(case, Call) for case in cases):
            raise ValueError(f"calls need a Python program, not {language.name}")
        with _failures_of_ours(), self._code(program, language) as code:
            if code.compilation is not None and not code.compilation.ok:
                failed = Execution("compile_error", stderr=code.compilation.stderr, note=code.compilation.note)
                return Result(tuple(failed for _ in cases), code.compilation)
            if isolation == "shared" and language.name == "python" and len(cases) > 1:
                shared = self._retrying(lambda box: shared_process.run(box, code.descriptor, cases, limits))
                runs = self._fill_up(code, cases, shared, limits, stop)
            else:
                runs = self._fresh(code, cases, limits, stop)
        return Result(tuple(runs), code.compilation)

    async def arun(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """Run a program as `run` does, without blocking the event loop. At most `size` calls run at a time; the others wait.

        Args:
            program: The source and its language.
            cases: Inputs and calls. Expected results are not part of them.
            limits: The limits of each case; by default those of the sandbox.
            isolation: As for `run`.
            stop: As for `run`.

        Raises:
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The request is not valid.
        """
        return await self._in_thread(lambda: self.run(program, cases, limits, isolation=isolation, stop=stop))

    def run_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:
        """Run test code against a Python program. Each runs in a separate sandbox process.

        The processes of the test code come from a second pool of the same size, which is started at the first call.

        Args:
            program: The program, in Python.
            tests: The test code.
            limits: The limits of the program and of the test code; by default those of the sandbox.

        Raises:
            BadTests: The test code can't be used.
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The program is not in Python.
        """
        limits = self._checked(limits)
        if languages.find(program.language).name != "python":
            raise ValueError("test code needs a Python program")
        with _failures_of_ours():
            tests_pool = self.pool.tests_pool()
            source = memory_file(program.source.encode("utf-8", "surrogatepass"))
            try:
                return self._retrying(lambda box: _run_tests(box, tests_pool, source, tests, limits))
            finally:
                os.close(source)

    async def arun_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:
        """Run test code as `run_tests` does, without blocking the event loop.

        Args:
            program: The program, in Python.
            tests: The test code.
            limits: The limits of the program and of the test code; by default those of the sandbox.

        Raises:
            BadTests: The test code can't be used.
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The program is not in Python.
        """
        return await self._in_thread(lambda: self.run_tests(program, tests, limits))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise Closed("the sandbox is closed")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.pool.size, thread_name_prefix="sandbox")
            running = asyncio.wrap_future(self._executor.submit(work))
        try:
            return await running
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Closed("the sandbox was closed") from None  # close() cancelled calls that had not started.

    def _fresh(self, code: ProgramCode, cases: Sequence[Case], limits: Limits, stop: Stop | None) -> list[Execution]:
        """Run each case in a new process of one box. If the box dies, the case runs again in another box."""
        done: list[Execution] = []
        failures = 0
        stopped = False
        while len(done) < len(cases) and not stopped:
            try:
                with self.pool.box() as box, CaseRunner(box, code, cases, limits) as runner:
                    while len(done) < len(cases) and not stopped:
                        run = runner.run(len(done))
                        failures = 0
                        done.append(run)
                        stopped = stop is not None and stop(len(done) - 1, run)
            except BoxDied:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
        return done + [SKIPPED] * (len(cases) - len(done))

    def _fill_up(
        self,
        code: ProgramCode,
        cases: Sequence[Case],
        runs: Sequence[Execution | None],
        limits: Limits,
        stop: Stop | None,
    ) -> list[Execution]:
        """Run each case without a result of the shared process in a new process."""
        done: list[Execution] = []
        stopped = False
        for case, run in zip(cases, runs, strict=True):
            if stopped:
                done.append(SKIPPED)
                continue
            result = run or self._retrying(partial(run_case, code=code, case=case, limits=limits))
            done.append(result)
            stopped = stop is not None and stop(len(done) - 1, result)
        return done

    def _retrying(self, work: Callable[[BoxConnection], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                with self.pool.box() as box:
                    return work(box)
            except BoxDied:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _checked(self, limits: Limits | None) -> Limits:
        most = self.limits
        if limits is None:
            return most
        for name in ("memory_mb", "processes"):
            if getattr(limits, name) > getattr(most, name):
                raise ValueError(
                    f"{name}={getattr(limits, name)} is above the sandbox's {getattr(most, name)}; open it with more"
                )
        return limits

    @contextlib.contextmanager
    def _code(self, program: Program, language: Language) -> Iterator[ProgramCode]:
        source = program.source.encode("utf-8", "surrogatepass")
        compilation = None
        if language.compile:
            source, compilation = self._compile(source, language)
        descriptor = memory_file(source)
        try:
            yield ProgramCode(language, descriptor, compilation)
        finally:
            os.close(descriptor)

    def _compile(self, source: bytes, language: Language) -> tuple[bytes, Execution]:
        key = blake2b(language.name.encode() + b"\0" + source, digest_size=16).digest()
        with self._lock:
            if key in self._binaries:
                self._binaries.move_to_end(key)
                return self._binaries[key]
        compiled = self._retrying(lambda box: compile_source(box, source, language, self.limits))
        if compiled[1].status in ("ok", "error"):
            with self._lock:
                self._binaries[key] = compiled
                kept = sum(_weight(each) for each in self._binaries.values())
                while kept > _BINARIES_BYTES:
                    kept -= _weight(self._binaries.popitem(last=False)[1])
        return compiled


@contextlib.contextmanager
def _failures_of_ours() -> Iterator[None]:
    """Raise `SandboxError` if this process lacks descriptors or memory, since that is not the program's failure."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise SandboxError(f"this machine lacks memory or file descriptors: {error}") from error


def _run_tests(candidate: BoxConnection, tests_pool: Pool, source: int, tests: Tests, limits: Limits) -> Verdict:
    with tests_pool.box() as other:
        return unit_tests.run(candidate, other, source, tests, limits)


def compile_source(box: BoxConnection, source: bytes, language: Language, most: Limits) -> tuple[bytes, Execution]:
    """Return the binary and the run of the compiler, which runs in the sandbox because the program could exploit it."""
    limits = replace(COMPILE_LIMITS, memory_mb=most.memory_mb, processes=most.processes)
    code, empty = memory_file(source), memory_file(b"")
    job = Job(
        entry="exec",
        code=code,
        limits=limits,
        stdin=empty,
        argv=language.compile,
        file=language.file,
        collect="program",
        address_space=False,
        environment={**ENVIRONMENT, **language.environment},
    )
    try:
        outcome = box.run(job)
    finally:
        os.close(code)
        os.close(empty)
    try:
        binary = _take(outcome, limits.file_mb << 20)
    finally:
        for descriptor in outcome.files:
            os.close(descriptor)
    execution = outcome.execution
    if execution.ok and not binary:
        execution = replace(execution, status="error", note="the compiler wrote no program")
    elif not execution.ok:
        execution = replace(execution, note=execution.note if execution.exit_code is None else "does not compile")
    return binary, execution


def _weight(compiled: tuple[bytes, Execution]) -> int:
    return len(compiled[0]) + len(compiled[1].stderr) + 4096


def _take(outcome: Outcome, cap: int) -> bytes:
    for descriptor in outcome.files:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= cap:
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
    return b""
