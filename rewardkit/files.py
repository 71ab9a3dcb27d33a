"""Writes files atomically and flushes them to disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rewardkit.errors import OutputError


def sync_file(path: Path) -> None:
    """Flush the content of a file to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to disk, so that new, renamed and removed files survive a power cut. Raises OSError."""
    sync_file(path)


def write_page(path: Path, page: str) -> None:
    r"""Write a page atomically. Lone surrogates, which UTF-8 can't hold, are written as escapes such as \ud800.

    Args:
        path: The file.
        page: Its text.

    Raises:
        OutputError: The file can't be written; an earlier one of that name is left unchanged.
    """
    try:
        write_whole(path, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file atomically. If this fails, an earlier file of that name is left unchanged.

    Args:
        path: The file.
        data: Its content.

    Raises:
        OSError: The file can't be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        sync_file(part)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
