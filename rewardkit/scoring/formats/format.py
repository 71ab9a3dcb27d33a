"""The interface of file formats, and the table of known formats.

Each module of this package that defines ``FORMAT`` is a format. Another distribution adds one with an entry point in the group
``rewardkit.formats`` whose object is a ``FileFormat``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TypeAlias

from rewardkit.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

ENTRY_POINTS = "rewardkit.formats"
"""The entry point group in which other distributions offer a ``FileFormat``."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that could not be parsed. It is rejected, and the rest of the file is read."""

    reason: str
    raw: str
    """The row as text, for the file of rejected rows."""


RawRow: TypeAlias = bytes | dict[str, Any] | UnreadableRow
"""A line of JSON without its end, or the columns of a row from a format that is not JSON."""

Payload: TypeAlias = "list[bytes] | pa.RecordBatch"
"""Scored rows, encoded: lines of JSON with their line ends, or Arrow columns."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive rows of a file."""

    rows: Sequence[RawRow]
    numbers: Sequence[int]
    """The number of each row in its file, counted from 1; in text files the number of its line."""
    position: int
    """Bytes of the file that have been read, for progress."""
    types: dict[str, Any] = field(default_factory=dict)
    """The Arrow type of each column, where the file states it."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open input file, past its compression."""

    name: str
    """The file's name for messages."""
    path: Path
    size: int
    """Bytes on disk."""
    stream: BinaryIO
    """The content, decompressed."""
    raw: BinaryIO
    """The file itself; its position tells how much has been read."""
    start: bytes
    """The first bytes of the content; ``stream`` begins with them too."""
    compression: str = ""
    """``gzip``, ``zstd`` or ``bz2``; empty if the file is not compressed."""


class Part(Protocol):
    """A file of scored rows that grows by segments and is whole again when it is cut at the end of any of them."""

    def write(self, payload: Payload, place: str) -> int:
        """Add rows to the open segment.

        Args:
            payload: The rows.
            place: ``file:line`` of the first row, for messages.

        Returns:
            Roughly how many bytes the rows take.
        """
        ...

    def commit(self) -> int:
        """End the segment and bring it to the disk. Returns the file's size in bytes."""
        ...

    def finish(self, ends: Sequence[int], rewritten: Path) -> Path:
        """Complete the file.

        Args:
            ends: The size of the file in bytes at the end of each segment.
            rewritten: Where to write if the rows must be written once more.

        Returns:
            The complete file: this part's or ``rewritten``.
        """
        ...


def open_part(path: Path, ending: str, ends: Sequence[int]) -> Part:
    """Open a file of scored rows that holds the segments that end at ``ends``, or nothing yet.

    Args:
        path: The file.
        ending: What ``output_format`` returned.
        ends: The size of the file in bytes at the end of each segment.
    """
    known, compression = writer_of(ending)
    return known.open_part(path, compression, ends)


class FileFormat:
    """A file format: how to recognise it, how to read its rows and, if ``payload`` is set, how to write scored rows."""

    name: str
    """The format's name in messages, such as ``Parquet``."""
    suffixes: tuple[str, ...] = ()
    """The endings of file names, without those of a compression."""
    magic: tuple[bytes, ...] = ()
    """First bytes that only files of this format have."""
    compressions: tuple[str, ...] = ()
    """Which compressions of a whole file can be read and written: ``gzip``, ``zstd``, ``bz2``."""
    payload: Literal["lines", "table"] | None = None
    """How scored rows come to ``open_part``; None if the format is only read."""

    def recognises(self, name: str, start: bytes) -> bool:
        """Return whether a file is of this format.

        Args:
            name: The file's name without the ending of a compression.
            start: The first bytes of its content, at most 1 MiB.
        """
        return any(start.startswith(magic) for magic in self.magic) or (not self.magic and name.endswith(self.suffixes))

    def refuse(self, source: Source) -> None:
        """Refuse a file that can't be read for a reason that its first bytes show.

        Raises:
            DataError: The file can't be read; says what it is and what to do.
        """

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the rows of a file in order.

        Raises:
            DataError: The file is damaged.
        """
        raise NotImplementedError

    def open_part(self, path: Path, compression: str, ends: Sequence[int]) -> Part:
        """Open a file of scored rows to append to.

        Args:
            path: The file.
            compression: One of ``compressions``, or empty.
            ends: Where the segments that it already holds end.
        """
        raise NotImplementedError

    def read_part(self, path: Path, ends: Sequence[int], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield the scored rows of a part, with at least the columns that are named by dotted paths."""
        raise NotImplementedError


@functools.cache
def formats() -> tuple[FileFormat, ...]:
    """Return every known format: this package's, then those of other distributions."""
    package = __package__ or ""
    path = importlib.import_module(package).__path__
    modules = [importlib.import_module(f"{package}.{found.name}") for found in pkgutil.iter_modules(path)]
    own = [module.FORMAT for module in modules if isinstance(getattr(module, "FORMAT", None), FileFormat)]
    others = [entry.load() for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    return (*own, *others)


SUFFIX_OF_COMPRESSION = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2"}


def output_suffixes() -> dict[str, tuple[FileFormat, str]]:
    """Return the endings that an output's name may have, each with its format and compression."""
    result: dict[str, tuple[FileFormat, str]] = {}
    for known in formats():
        if known.payload is None:
            continue
        for suffix in known.suffixes[:1]:
            result[suffix] = known, ""
            for compression in known.compressions:
                result[suffix + SUFFIX_OF_COMPRESSION[compression]] = known, compression
    return result


def output_format(path: Path) -> str:
    """Return the ending of an output's name without its dot, such as ``jsonl.gz``, which says what to write.

    Raises:
        UsageError: No format has such an ending.
    """
    known = output_suffixes()
    for suffix in sorted(known, key=len, reverse=True):
        if path.name.endswith(suffix):
            return suffix.removeprefix(".")
    raise UsageError(f"--out {path}: the name must end in one of {', '.join(known)}, which says what to write")


def writer_of(ending: str) -> tuple[FileFormat, str]:
    """Return the format and the compression that an output's ending, such as ``jsonl.gz``, stands for.

    Raises:
        DataError: The format is not installed here.
    """
    try:
        return output_suffixes()[f".{ending}"]
    except KeyError:
        raise DataError(f"no installed file format writes .{ending}") from None


def format_of(source: Source) -> FileFormat:
    """Return the format of an open file: by its first bytes, then by its name; JSON Lines if nothing else fits."""
    name = source.name.lower()
    suffix = SUFFIX_OF_COMPRESSION.get(source.compression)
    name = name.removesuffix(suffix) if suffix else name
    known = [item for item in formats() if item.recognises(name, source.start)]
    if known:
        return known[0]
    return next(item for item in formats() if ".jsonl" in item.suffixes)
