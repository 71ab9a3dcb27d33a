"""Files that are on the disk whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Bring new, renamed and removed names in a folder to the disk. Raises OSError."""
    sync_file(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file in place of what is there of that name, which stays where that fails. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        sync_file(part)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
