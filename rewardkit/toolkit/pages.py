"""Pages that a command writes beside its results."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rewardkit.errors import OutputError, UsageError


def check_page(option: str, page: Path | None, inputs: Iterable[Path | str]) -> None:
    """Check that a page can be written and replaces nothing that the command reads.

    Args:
        option: The option that names the page.
        page: The page; None if none is wanted.
        inputs: Files, folders and globs that the command reads.

    Raises:
        UsageError: The folder of the page does not exist, or the page is one of the inputs.
        OutputError: The folder can't be written to.
    """
    if page is None:
        return
    if not page.parent.is_dir():
        raise UsageError(f"{option} {page}: the folder {page.parent} does not exist")
    if page.exists() and any(page.samefile(path) for name in inputs for path in _existing(name)):
        raise UsageError(f"{option} {page} is also an input, and would be overwritten: give another name")
    part = page.with_name(f".{page.name}.part")
    try:
        part.write_bytes(b"")
    except OSError as error:
        raise OutputError(f"{option} {page} can't be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            part.unlink()


def _existing(name: Path | str) -> list[Path]:
    """Return the files that a name or glob stands for."""
    path = Path(name)
    with suppress(OSError):
        if path.exists():
            return [path]
    return [Path(found) for found in glob.glob(str(name), recursive=True)]  # noqa: PTH207 - as the readers of rows match
