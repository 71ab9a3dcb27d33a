"""Writes folders and files atomically."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from rewardkit.errors import OutputError
from rewardkit.files import sync_file, write_whole
from rewardkit.train.distributed import collectives

FULL = 1 << 20
"""Error messages call a disk with fewer free bytes full."""
_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What writing raises. safetensors and torch have their own errors for a full disk."""


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder atomically, replacing a folder of the same name.

    Raises:
        OutputError: The folder can't be written. An existing folder is unchanged.
    """
    part = _part(path)
    old = path.with_name(f".{path.name}.old")
    try:
        if old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        mode = part.stat().st_mode & 0o666  # safetensors makes files that others can't read, whatever the umask
        for file in part.rglob("*"):
            if file.is_file():
                file.chmod(mode)
                sync_file(file)
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except _ERRORS as error:
        reason = _reason(error, path)
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise OutputError(f"{path} can't be written: {reason}; the existing content is unchanged") from error


def write_folder_together(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder atomically from all processes, replacing a folder of the same name. All must call this together.

    Args:
        path: The folder, which every process sees.
        write: Called in every process with the folder to write into.

    Raises:
        OutputError: The folder can't be written. An existing folder is unchanged.
    """

    def write_own(part: Path) -> None:
        collectives.barrier()  # the main process has made the folder
        write(part)

    if collectives.is_main_process():
        write_folder(path, write_own)
    else:
        try:
            write_own(_part(path))
        except _ERRORS as error:
            reason = _reason(error, path)
            raise OutputError(f"{path} can't be written: {reason}; the existing content is unchanged") from error
    collectives.barrier()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, replacing a file of the same name. Raises OutputError."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}; the existing content is unchanged") from error


def remove_folder(path: Path) -> None:
    """Remove a folder by renaming it first, so that an interrupted removal leaves no partial folder. Raises OutputError."""
    gone = path.with_name(f".{path.name}.old")
    try:
        path.rename(gone)
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}") from error
    shutil.rmtree(gone, ignore_errors=True)


def _part(path: Path) -> Path:
    """Return the name under which a folder is written before it is complete."""
    return path.with_name(f".{path.name}.part")


def _reason(error: Exception, path: Path) -> str:
    """Return why a folder can't be written. torch does not say that a disk is full."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else FULL
    return f"No space left on device ({free:,} bytes are free)" if free < FULL else str(error)
