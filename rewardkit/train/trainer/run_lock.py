"""The lock of an output folder: one training run at a time writes into it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import orjson

from rewardkit.errors import OutputError, UsageError

logger = logging.getLogger(__name__)


def lock_file(output: Path) -> Path:
    """Return the path of an output folder's lock, which lies beside the folder."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Hold the lock of an output folder.

    The operating system releases the lock when the process ends, however it ends, so the lock file of a killed run never
    blocks the next one.

    Args:
        output: The folder of the run. It need not exist.

    Raises:
        UsageError: Another process that is still running trains into this folder.
        OutputError: The lock file can't be created.
    """
    path = lock_file(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, output)
    except OSError as error:
        raise OutputError(f"{path} can't be created: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _lock(path: Path, output: Path) -> IO[bytes]:
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                owner = _owner(file)
                file.close()
                raise UsageError(
                    f"{output} is in use: another training run{owner} writes into it. Wait for it to end, or use another output folder"
                ) from None
            logger.warning(
                "%s can't be locked (%s): nothing prevents a second run in this folder", path, error.strerror
            )
        # The run before may have removed the file between our opening it and locking it.
        with suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                break
        file.close()
    file.truncate(0)
    file.write(orjson.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    file.flush()
    return file


def _owner(file: IO[bytes]) -> str:
    """Describe the process that holds a lock, as far as its file tells."""
    file.seek(0)
    try:
        content = orjson.loads(file.read())
        return f" (process {content['pid']} on {content['host']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
