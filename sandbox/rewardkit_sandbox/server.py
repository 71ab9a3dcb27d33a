"""SandboxFusion's HTTP API over a local sandbox: what speaks to theirs can speak to ours.

`files` and `fetch_files` are not offered: a program here has no files but its own source.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from rewardkit_sandbox.errors import SandboxError
from rewardkit_sandbox.types import Execution, Program, Stdin

if TYPE_CHECKING:
    from starlette.requests import Request

    from rewardkit_sandbox.sandbox import Sandbox


def application(sandbox: Sandbox) -> Starlette:
    """The ASGI application: `POST /run_code`, `GET /v1/ping`."""

    async def run_code(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
            program, stdin, limits = _read(body, sandbox)
        except (ValueError, TypeError) as error:
            return JSONResponse({"status": "SandboxError", "message": f"bad request: {error}"}, status_code=400)
        try:
            result = await sandbox.arun(program, [stdin], limits)
        except ValueError as error:
            return JSONResponse({"status": "SandboxError", "message": f"bad request: {error}"}, status_code=400)
        except SandboxError as error:
            return JSONResponse({"status": "SandboxError", "message": str(error)}, status_code=503)
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

    async def ping(_: Request) -> JSONResponse:
        return JSONResponse("pong")

    return Starlette(routes=[Route("/run_code", run_code, methods=["POST"]), Route("/v1/ping", ping)])


def _read(body: Any, sandbox: Sandbox) -> tuple[Program, Stdin, Any]:
    """The program, its input and its limits.

    Raises:
        ValueError: what is missing, of the wrong type, or not offered.
    """
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        raise ValueError('the body must be an object with "code", a string')  # noqa: TRY004
    if body.get("files") or body.get("fetch_files"):
        raise ValueError("files are not offered here")
    seconds = float(body.get("run_timeout") or sandbox.limits.deadline_s)
    memory = int(body.get("memory_limit_MB") or 0)
    memory = min(memory, sandbox.limits.memory_mb) if memory > 0 else sandbox.limits.memory_mb
    limits = replace(sandbox.limits, wall_s=seconds, cpu_s=max(seconds, 1.0), memory_mb=memory)
    return Program(body["code"], str(body.get("language") or "python")), Stdin(body.get("stdin") or ""), limits


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
