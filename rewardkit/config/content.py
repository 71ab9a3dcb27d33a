"""Identifies what determines a component's scores besides its parameters: files that they name, and what the plugin tells."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewardkit.registry import OfferedReward

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 << 20
"""Larger files are identified by size and time of the last change."""
_MAX_PATH = 1024
_WRITTEN = frozenset({".log", ".out", ".err", ".tmp", ".lock", ".pid", ".sock", ".db", ".sqlite", ".sqlite3"})
"""Suffixes of files that a reward writes into rather than reads."""


def component_content(offer: OfferedReward, params: Any, plain: Any) -> dict[str, Any]:
    """Return what determines the scores of a component besides its parameters, as JSON data; empty if there is nothing.

    Args:
        offer: The reward.
        params: Its parameters.
        plain: The same as JSON data.

    Returns:
        ``files``: the hash of each file that a parameter names. ``identity``: what the reward's ``identity`` function returned.
    """
    content: dict[str, Any] = {}
    if files := named_files(plain):
        content["files"] = files
    if offer.type.identity is not None:
        try:
            identity = offer.type.identity(params)
        # The boundary: it is the plugin's code. A reward that can't be identified can still be checked and built.
        except Exception:
            logger.debug("the identity of %s is unknown", offer.type.name, exc_info=True)
            identity = None
        if identity is not None:
            content["identity"] = str(identity)
    return content


def named_files(plain: Any) -> dict[str, str]:
    """Return the hash of each file that a text in parameters names."""
    return {text: digest for text in _texts(plain) if (digest := _file_digest(text))}


def _texts(data: Any) -> Iterator[str]:
    """Yield every text in JSON data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def _file_digest(text: str) -> str:
    """Return a hash of the content of the file that a text names; empty if it names none.

    Only a text with a suffix is taken for a path, so that no word becomes one by accident. Files that programs write into do not count.
    """
    if not 0 < len(text) <= _MAX_PATH or "\n" in text or "\0" in text:
        return ""
    path = Path(text)
    if not path.suffix or path.suffix in _WRITTEN:
        return ""
    try:
        if not path.is_file():
            return ""
        found = path.stat()
        if found.st_size > MAX_FILE_BYTES:
            return f"{found.st_size} bytes of {found.st_mtime_ns}"
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError:
        return ""
