"""A sandbox behind SandboxFusion's HTTP API (`POST /run_code`): SandboxFusion itself, or `python -m rewardkit_sandbox serve`.

The service isolates the programs. Verdicts are still made here, and expected outputs are never sent. A call is sent as a small
driver around the program, and its result comes back in the same typed encoding. Test code needs two boxes that talk to each
other, which the API does not offer: use a local backend for that.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import Any, Self

from rewardkit_sandbox import languages
from rewardkit_sandbox.box import codec
from rewardkit_sandbox.errors import Closed, SandboxError, Unavailable
from rewardkit_sandbox.host.case_runner import returned
from rewardkit_sandbox.protocol import SandboxBackend, SandboxOptions, Stop
from rewardkit_sandbox.sandbox import SKIPPED
from rewardkit_sandbox.types import (
    Call,
    Case,
    Execution,
    Isolation,
    Limits,
    Program,
    Property,
    Result,
    Stdin,
    Tests,
    Verdict,
)

_NAMES = {"javascript": "nodejs"}
_ATTEMPTS = 4
_DRIVER = """\
import os, sys, types
out = os.dup(1)
os.dup2(2, 1)
codec = types.ModuleType("codec")
exec({codec!r}, codec.__dict__)
job = codec.loads(sys.stdin.buffer.readline())
main = types.ModuleType("solution")
sys.modules["solution"] = main
space = main.__dict__
write, leave, dumps = os.write, os._exit, codec.dumps
try:
    exec(compile({source!r}, "solution.py", "exec"), space)
    name, args, kwargs = job
    first, *rest = name.split(".")
    if first not in space and not rest and "Solution" in space:
        first, rest = "Solution", [name]
    if first not in space:
        raise NameError("name %r is not defined" % name)
    target = space[first]
    for part in rest:
        target = getattr(target() if isinstance(target, type) else target, part)
    line = dumps(["returned", target(*args, **kwargs)])
except codec.CodecError as error:
    line = dumps(["unencodable", str(error)])
except BaseException as error:
    line = dumps(["raised", [type(error).__name__[:100], str(error)[:1000].encode("utf-8", "replace").decode(), []]])
view = memoryview(line)
while view:
    view = view[write(out, view):]
leave(0)
"""


@cache
def _codec() -> str:
    return resources.files("rewardkit_sandbox.box").joinpath("codec.py").read_text()


class RemoteBackend(SandboxBackend):
    """A service elsewhere, named by `SandboxOptions.url`."""

    runs_test_code = False
    takes_url = True

    def identity(self) -> None:
        """Return None, because the service has no identity of its image."""

    def diagnose(self) -> Iterator[Property]:
        """Yield whether the service answers."""
        name = f"sandbox service {self.options.url}"
        try:
            RemoteSandbox(self.options, name).close()
        except Unavailable as error:
            yield Property(name, False, str(error), "start it: python -m rewardkit_sandbox serve")
        else:
            yield Property(name, True, "runs programs")

    def open(self, description: str) -> RemoteSandbox:
        """Return a sandbox that is connected to the service.

        Raises:
            Unavailable: The service does not answer.
        """
        return RemoteSandbox(self.options, description)


class RemoteSandbox:
    """A `Sandbox` over a service, with as many requests at a time as it has slots."""

    def __init__(self, options: SandboxOptions, description: str) -> None:
        """Connect to a service.

        Args:
            options: The address, the token, the slots, and the limits of a call that gives none. The service measures CPU time;
                what is sent is the wall-clock limit and the memory.
            description: What `description` says.

        Raises:
            Unavailable: It does not answer.
        """
        try:
            import httpx
        except ImportError as error:
            raise Unavailable("a remote sandbox needs httpx: pip install 'rewardkit-sandbox[remote]'") from error
        url, self.size = str(options.url), options.slots
        self.limits, self.description = options.limits, description
        token = options.token or os.environ.get("REWARDKIT_SANDBOX_TOKEN")
        try:
            self._http = httpx.Client(
                base_url=url,
                limits=httpx.Limits(max_connections=self.size),
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise Unavailable(f"{url!r} is not the address of a service: {error}") from error
        self._turn = threading.Semaphore(self.size)
        self._closed = False
        self._executor = ThreadPoolExecutor(self.size, thread_name_prefix="sandbox-remote")
        try:
            self.run(Program("print('ready')"), [Stdin("")])
        except SandboxError as error:
            self.close()
            raise Unavailable(f"no sandbox answers at {url}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls that wait or run raise `Closed`."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def run(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """Run a program as `Sandbox.run` does. Every case is a request, and `shared` is treated as `fresh`.

        Raises:
            SandboxError: the service failed, again and again.
            ValueError: the request makes no sense.
        """
        del isolation
        limits = limits or self.limits
        language = languages.find(program.language)
        done: list[Execution] = []
        compilation: Execution | None = None
        for number, case in enumerate(cases):
            if isinstance(case, Call) and language.name != "python":
                raise ValueError(f"calls need a Python program, not {language.name}")
            compilation, run = self._case(program, language.name, case, limits)
            done.append(run)
            if run.status == "compile_error":
                done += [run] * (len(cases) - len(done))
                break
            if stop is not None and stop(number, run):
                break
        return Result((*done, *[SKIPPED] * (len(cases) - len(done))), compilation)

    async def arun(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """`run` for async callers."""
        work = lambda: self.run(program, cases, limits, isolation=isolation, stop=stop)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def run_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:  # noqa: ARG002
        """Refuse test code, which needs two boxes that talk to each other.

        Raises:
            Unavailable: Always.
        """
        raise Unavailable("a remote sandbox can't run test code: use the docker or bubblewrap backend")

    async def arun_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:
        """Refuse test code, as `run_tests` does."""
        return self.run_tests(program, tests, limits)

    def _case(self, program: Program, language: str, case: Case, limits: Limits) -> tuple[Execution | None, Execution]:
        if isinstance(case, Call):
            code = _DRIVER.format(codec=_codec(), source=program.source)
            stdin = codec.dumps([case.name, list(case.args), dict(case.kwargs)]).decode()
        else:
            code, stdin = program.source, case.data.decode("utf-8", "replace")
        answer = self._post(
            {
                "code": code,
                "stdin": stdin,
                "language": _NAMES.get(language, language),
                "compile_timeout": 60,
                "run_timeout": limits.deadline_s,
                "memory_limit_MB": limits.memory_mb,
                "files": {},
                "fetch_files": [],
            },
            limits.deadline_s + 90,
        )
        compiled, ran = answer.get("compile_result"), answer.get("run_result")
        compilation = _execution(compiled, limits, "does not compile") if compiled else None
        if compilation is not None and not compilation.ok:
            return compilation, Execution("compile_error", stderr=compilation.stderr, note=compilation.note)
        if not ran:
            raise SandboxError(f"the service gave no result: {answer.get('message') or answer}")
        execution = _execution(ran, limits, None)
        return compilation, returned(execution, execution.stdout) if isinstance(case, Call) else execution

    def _post(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send one request, and repeat it if the service fails."""
        import httpx

        failure = ""
        for attempt in range(_ATTEMPTS):
            if self._closed:
                raise Closed("the sandbox is closed")
            if attempt:
                time.sleep(min(0.2 * 4**attempt, 5))
            try:
                with self._turn:
                    response = self._http.post("/run_code", json=body, timeout=timeout_s)
                answer = response.json()
            except (httpx.HTTPError, ValueError) as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            except RuntimeError as error:  # httpx: the client has been closed
                raise Closed("the sandbox is closed") from error
            if (
                response.status_code == httpx.codes.OK
                and isinstance(answer, dict)
                and answer.get("status") != "SandboxError"
            ):
                return answer
            failure = f"HTTP {response.status_code}: {str(answer)[:300]}"
            if response.is_client_error:
                break
        raise SandboxError(f"the service failed: {failure}")


def _execution(row: dict[str, Any], limits: Limits, failure: str | None) -> Execution:
    stdout, stderr = ((row.get(name) or "").encode("utf-8", "surrogatepass") for name in ("stdout", "stderr"))
    code, took = row.get("return_code"), float(row.get("execution_time") or 0.0)
    common: dict[str, Any] = {"stderr": stderr[: limits.output_bytes], "wall_s": took}
    if row.get("status") == "TimeLimitExceeded":
        return Execution(
            "time_limit", stdout[: limits.output_bytes], note=f"timed out after {limits.deadline_s:g} s", **common
        )
    if len(stdout) > limits.output_bytes:
        return Execution(
            "output_limit", stdout[: limits.output_bytes], note=f"wrote more than {limits.output_bytes} bytes", **common
        )
    if row.get("status") == "Finished" and code == 0:
        return Execution("ok", stdout, exit_code=0, **common)
    return Execution("error", stdout, exit_code=code, note=failure or f"exit code {code}", **common)
