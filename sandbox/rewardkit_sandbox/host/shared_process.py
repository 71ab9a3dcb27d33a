"""All cases of a Python program in one process: fast, and used only for cases that end well."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rewardkit_sandbox.box import codec
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.host.exchange import Job, memory_file
from rewardkit_sandbox.types import Call, Case, Execution, Limits, Stdin

_CHUNK = 200


def run(box: BoxConnection, code: int, cases: Sequence[Case], limits: Limits) -> list[Execution | None]:
    """Return the run of each case; None for those that must run again in a process of their own.

    Only cases that the process reports as ended well count. Their output is compared like any other, so a false report gains
    nothing.
    """
    runs: list[Execution | None] = []
    at = 0
    while at < len(cases):
        kind = type(cases[at])
        end = at
        while end < len(cases) and end - at < _CHUNK and type(cases[end]) is kind:
            end += 1
        runs += _chunk(box, code, cases[at:end], limits)
        at = end
    return runs


def _chunk(box: BoxConnection, code: int, cases: Sequence[Case], limits: Limits) -> list[Execution | None]:
    opened: list[int] = []

    def file(data: bytes) -> int:
        opened.append(memory_file(data))
        return opened[-1]

    try:
        calls = [
            codec.dumps([case.name, list(case.args), dict(case.kwargs)]) for case in cases if isinstance(case, Call)
        ]
        stdin = file(b"".join(calls))
        extra = tuple(file(case.data) for case in cases if isinstance(case, Stdin))
        outputs = (os.memfd_create("stdout", os.MFD_CLOEXEC), os.memfd_create("stderr", os.MFD_CLOEXEC))
        opened.extend(outputs)
        job = Job("batch", code, limits, stdin, result=True, extra=extra, output_files=outputs)
        outcome = box.run(job)
        return _read(outcome.result, outputs, len(cases), outcome.execution, limits)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _read(
    result: bytes, outputs: tuple[int, int], count: int, whole: Execution, limits: Limits
) -> list[Execution | None]:
    runs: list[Execution | None] = [None] * count
    starts = [0, 0]
    expected = 0
    for line in result.splitlines():
        try:
            index, ends, status, value = codec.loads(line)
            texts = [
                _slice(descriptor, *span)
                for descriptor, span in zip(outputs, zip(starts, ends, strict=True), strict=True)
            ]
        except (codec.CodecError, TypeError, ValueError, OSError, OverflowError):
            break
        if index != expected or index >= count:
            break
        expected += 1
        starts = ends
        if len(texts[0]) > limits.output_bytes:
            continue
        share = whole.cpu_s / max(count, 1)
        if (status == "exited" and value == 0) or status == "returned":
            runs[index] = Execution(
                "ok",
                texts[0],
                texts[1][: limits.output_bytes],
                0,
                value if status == "returned" else None,
                cpu_s=share,
                wall_s=share,
                memory_kb=whole.memory_kb,
            )
    return runs


def _slice(descriptor: int, start: int, end: int) -> bytes:
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("no span")
    return os.pread(descriptor, min(end - start, 1 << 26), start)
