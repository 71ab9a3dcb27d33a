"""A local sandbox behind SandboxFusion's HTTP API, for clients of that API.

`files` and `fetch_files` are not offered: a program here has no files but its own source.

A request must carry the token, be JSON, and name a host that the service goes by. A web page that a browser on this machine shows
can do none of that: it doesn't know the token, JSON to another origin needs a permission that is never given, and a name that an
attacker's DNS points here is not one of the service's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from rewardkit_sandbox.errors import SandboxError
from rewardkit_sandbox.types import Execution, Program, Stdin

if TYPE_CHECKING:
    from starlette.requests import Request

    from rewardkit_sandbox.protocol import Sandbox


LARGEST_BODY = 64 << 20
"""Bytes of a request."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def application(sandbox: Sandbox, *, token: str | None, hosts: Sequence[str] = ()) -> Starlette:
    """Return the ASGI application: `POST /run_code`, `GET /v1/ping`.

    Args:
        sandbox: Runs the programs. Its wall-clock limit is the longest `run_timeout` that a request may ask for.
        token: What requests must carry as `Authorization: Bearer …`; None accepts all.
        hosts: Names and addresses under which clients reach the service, beside those of the loopback interface.
    """
    known_hosts = {name.lower() for name in (*LOOPBACK, *hosts)}

    async def run_code(request: Request) -> JSONResponse:
        refused = _refuse(request, token, known_hosts)
        if refused is not None:
            return refused
        try:
            body = json.loads(await _body(request))
            program, stdin, limits = _read(body, sandbox)
        except (ValueError, TypeError) as error:
            return _error(400, f"bad request: {error}")
        try:
            result = await sandbox.arun(program, [stdin], limits)
        except ValueError as error:
            return _error(400, f"bad request: {error}")
        except SandboxError as error:
            return _error(503, str(error))
        run = result.runs[0]
        ran = None if run.status == "compile_error" else _row(run)
        good = run.ok and (result.compilation is None or result.compilation.ok)
        answer = {
            "status": "Success" if good else "Failed",
            "message": run.note,
            "compile_result": _row(result.compilation) if result.compilation else None,
            "run_result": ran,
            "executor_pod_name": None,
            "files": {},
        }
        return JSONResponse(answer)

    async def ping(request: Request) -> JSONResponse:
        if _host(request) not in known_hosts:
            return _error(403, f"unknown host {_host(request)!r}")
        return JSONResponse("pong")

    return Starlette(routes=[Route("/run_code", run_code, methods=["POST"]), Route("/v1/ping", ping)])


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"status": "SandboxError", "message": message}, status_code=status)


def _host(request: Request) -> str:
    """Return the host that a request names, without its port."""
    host = request.headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host


def _refuse(request: Request, token: str | None, hosts: set[str]) -> JSONResponse | None:
    """Return the answer to a request that must not be read; None if it may."""
    if _host(request) not in hosts:
        return _error(403, f"unknown host {_host(request)!r}: start the service with --allow-host {_host(request)}")
    if token is not None:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return _error(
                401, "the token is missing or wrong: send Authorization: Bearer TOKEN (or set REWARDKIT_SANDBOX_TOKEN)"
            )
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _error(415, "the Content-Type must be application/json")
    return None


async def _body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ValueError: It is too large.
    """
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > LARGEST_BODY:
            raise ValueError(f"the body is larger than {LARGEST_BODY >> 20} MiB")
    return b"".join(parts)


def _read(body: Any, sandbox: Sandbox) -> tuple[Program, Stdin, Any]:
    """Return the program, its input and its limits.

    Raises:
        ValueError: What is missing, of the wrong type, or not offered.
    """
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        raise ValueError('the body must be an object with "code", a string')  # noqa: TRY004
    if body.get("files") or body.get("fetch_files"):
        raise ValueError("files are not offered here")
    stdin, language = body.get("stdin") or "", body.get("language") or "python"
    if not isinstance(stdin, str) or not isinstance(language, str):
        raise ValueError('"stdin" and "language" must be strings')  # noqa: TRY004
    longest = sandbox.limits.deadline_s
    seconds = float(body.get("run_timeout") or min(longest, 10.0))
    if not 0 < seconds <= longest:
        raise ValueError(f'"run_timeout" must be above 0 and at most {longest:g} s, not {seconds:g}')
    memory = int(body.get("memory_limit_MB") or 0)
    memory = min(memory, sandbox.limits.memory_mb) if memory > 0 else sandbox.limits.memory_mb
    limits = replace(sandbox.limits, wall_s=seconds, cpu_s=max(seconds, 1.0), memory_mb=memory)
    return Program(body["code"], language), Stdin(stdin), limits


def _row(run: Execution) -> dict[str, Any]:
    finished = run.exit_code is not None
    status = "TimeLimitExceeded" if run.status == "time_limit" else "Finished" if finished else "Error"
    return {
        "status": status,
        "execution_time": run.wall_s,
        "return_code": run.exit_code,
        "stdout": run.stdout.decode("utf-8", "replace"),
        "stderr": run.stderr.decode("utf-8", "replace"),
    }
