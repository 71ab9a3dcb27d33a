"""Standard streams that a reward, a closed descriptor or a full disk can't break."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
from types import TracebackType
from typing import Any, Self, TextIO

import orjson


class _Forgiving(io.FileIO):
    """A file that drops what can't be written."""

    def write(self, data: object) -> int:
        """Write bytes. Where that fails, act as if it had not."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def protect_streams() -> None:
    """Open closed standard streams as the null device, and let nothing fail because standard error can't be written.

    A closed descriptor would be given to the next file that is opened, which stray messages would then be written into.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # rows may hold lone surrogates, and terminals lack characters
    if sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Forgiving(2, "w", closefd=False)), encoding, "backslashreplace", line_buffering=True
        )


def json_text(data: Any) -> str:
    """Return data as indented JSON. Lone surrogates of rows, which UTF-8 can't hold, are written as escapes."""
    try:
        return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        return json.dumps(data, indent=2)


class RewardOutput:
    """Sends what rewards print, their subprocesses and C libraries included, to standard error.

    The command itself writes to ``stdout``. Inside the block ``sys.stdout`` and descriptor 1 are standard error.
    """

    stdout: TextIO
    """The standard output of the program."""

    def __enter__(self) -> Self:
        before: TextIO = sys.stdout
        self._streams = before, sys.stderr
        self._saved = -1
        self.stdout = before
        if before is sys.__stdout__:
            before.flush()
            self._saved = os.dup(1)
            os.dup2(2, 1)
            self.stdout = os.fdopen(self._saved, "w", encoding=before.encoding, errors="surrogateescape")
        sys.stdout = sys.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout, sys.stderr = self._streams
        if self._saved < 0:
            return
        with contextlib.suppress(OSError):  # what rewards left in the buffers of Python and of C
            sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)
        try:
            self.stdout.flush()
        finally:
            os.dup2(self._saved, 1)
            with contextlib.suppress(OSError):
                self.stdout.close()
