"""Checksums of a folder's files, so that damage on disk is found before a run resumes from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

FILE = "checksums.json"
"""The file of a folder that holds the checksums of all its other files."""


def write_checksums(folder: Path) -> None:
    """Record the size and the SHA-256 of every file below a folder in its ``checksums.json``. Raises OSError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    found = {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
    (folder / FILE).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def find_damage(folder: Path) -> str | None:
    """Compare a folder with its checksums.

    Args:
        folder: A folder that ``write_checksums`` was called for.

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
    for name, (size, digest) in recorded.items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} bytes where {size:,} were written"
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
