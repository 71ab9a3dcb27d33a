"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from rewardkit.errors import OutputError
from rewardkit.files import sync_file, write_whole

FULL = 1 << 20
"""A disk with fewer bytes free is full, for messages."""


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that appears whole or not at all, in place of one of that name.

    Raises:
        OutputError: It can't be written (permission, full disk); what was there stays.
    """
    part = path.with_name(f".{path.name}.part")
    old = path.with_name(f".{path.name}.old")
    try:
        if old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        for file in part.rglob("*"):
            if file.is_file():
                sync_file(file)
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    # safetensors and torch have errors of their own for a full disk.
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error, path)
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise OutputError(f"{path} can't be written: {reason}; what was there before is untouched") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, in place of one of that name. Raises OutputError."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}; what was there before is untouched") from error


def remove_folder(path: Path) -> None:
    """Remove a folder at once: killed in the middle, half of one must not pass for a whole one. Raises OutputError."""
    gone = path.with_name(f".{path.name}.old")
    try:
        path.rename(gone)
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}") from error
    shutil.rmtree(gone, ignore_errors=True)


def _reason(error: Exception, path: Path) -> str:
    """Why something could not be written; torch tells of a full disk in words of its own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else FULL
    return f"No space left on device ({free:,} bytes are free)" if free < FULL else str(error)
