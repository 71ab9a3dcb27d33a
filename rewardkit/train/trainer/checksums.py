"""Checksums of a folder's files, so that damage on disk is found before a run resumes from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import orjson

FILE = "checksums.json"
"""The file of a folder that holds the checksums of all its other files."""


Checksums: TypeAlias = Mapping[str, Mapping[str, int | str]]
"""Size and SHA-256 of files, by their paths in a folder."""


def checksums_of(folder: Path, rank: int = 0, size: int = 1) -> Checksums:
    """Return the checksums of the files below a folder.

    Args:
        folder: The folder.
        rank: The number of this process, if several share the work.
        size: The number of processes, each of which takes every ``size``-th file.

    Raises:
        OSError: A file can't be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    return {str(path.relative_to(folder)): checksum_of(path) for path in files[rank::size]}


def checksum_of(file: Path) -> Mapping[str, int | str]:
    """Return size and SHA-256 of a file. Raises OSError."""
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def write_checksums(folder: Path, found: Checksums | None = None) -> None:
    """Record the checksums of every file below a folder in its ``checksums.json``.

    Args:
        folder: The folder.
        found: The checksums, if they are known.

    Raises:
        OSError: A file can't be read or written.
    """
    found = checksums_of(folder) if found is None else found
    (folder / FILE).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def find_damage(folder: Path, rank: int = 0, size: int = 1) -> str | None:
    """Compare a folder with its checksums.

    Args:
        folder: A folder that ``write_checksums`` was called for.
        rank: The number of this process, if several share the work.
        size: The number of processes, each of which checks every ``size``-th file.

    Returns:
        A clause that names the first damaged file and what is wrong with it; None where every file is intact.
    """
    try:
        recorded = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in orjson.loads((folder / FILE).read_bytes()).items()
        }
    except FileNotFoundError:
        return f"{FILE} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{FILE} can't be read ({error})"
    for name, (length, digest) in list(recorded.items())[rank::size]:
        path = folder / name
        try:
            if path.stat().st_size != length:
                return f"{name} has {path.stat().st_size:,} bytes where {length:,} were written"
            if _sha256(path) != digest:
                return f"the content of {name} differs from what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
