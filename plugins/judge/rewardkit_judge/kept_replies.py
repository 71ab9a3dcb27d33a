"""Replies of a job that is not finished, in a file beside its output: a resumed run pays for none of them again.

The journal of a job records rows in chunks. What an interrupted run had been answered for the rows of unfinished chunks is here. The file
is removed when the job is done.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import IO, Any

from rewardkit.errors import OutputError
from rewardkit_judge.endpoint import Usage

MOST = 10_000
"""Replies that are kept: more than the rows of the chunks that a job works on at once have questions."""


class KeptReplies:
    """The kept replies of one job, the newest ones.

    Args:
        out: The output of the job.
        fresh: Forget what an earlier run kept.

    Raises:
        OutputError: The file can't be written.
    """

    def __init__(self, out: Path, *, fresh: bool = False) -> None:
        self._path = out.with_name(f"{out.name}.replies.part")
        self._known: dict[str, tuple[Any, Usage]] = {}
        self._file: IO[bytes] | None = None
        self._lines = 0
        try:
            if fresh:
                self._path.unlink(missing_ok=True)
            elif self._path.exists():
                self._read()
        except OSError as error:
            raise self._unwritable(error) from error

    def get(self, key: bytes) -> tuple[Any, Usage] | None:
        """Return a reply and what it cost; None if there is none.

        Args:
            key: A digest of the question.
        """
        return self._known.get(key.hex())

    def add(self, key: bytes, data: Any, usage: Usage) -> None:
        """Keep a reply.

        Args:
            key: A digest of the question.
            data: The response of the endpoint.
            usage: What it cost.

        Raises:
            OutputError: The file can't be written.
        """
        self._known[key.hex()] = (data, usage)
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        try:
            if self._lines >= 2 * MOST:
                self.close()
                self._rewrite()
            self._file = self._file or self._path.open("ab")
            self._file.write(_line(key.hex(), data, usage))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self._lines += 1

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the file: the job is done."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        for line in self._path.read_bytes().splitlines():
            try:
                key, data, counts = json.loads(line)
                self._known[str(key)] = (data, Usage(*map(int, counts)))
            except (ValueError, TypeError, RecursionError):  # cut off by a kill: the question is asked again
                continue
        self._rewrite()

    def _rewrite(self) -> None:
        """Leave only whole and recent lines."""
        kept = list(self._known.items())[-MOST:]
        self._known = dict(kept)
        part = self._path.with_name(f"{self._path.name}.new")
        part.write_bytes(b"".join(_line(key, *reply) for key, reply in kept))
        part.replace(self._path)
        self._lines = len(kept)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path} can't be written: {error.strerror or error}")


def _line(key: str, data: Any, usage: Usage) -> bytes:
    counts = [usage.calls, usage.prompt_tokens, usage.completion_tokens]
    return json.dumps([key, data, counts]).encode() + b"\n"
