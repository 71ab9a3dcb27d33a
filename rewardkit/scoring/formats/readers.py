"""Finds input files, identifies them by content, and reads their rows in chunks.

A chunk has the file and number of each row, so that every message can name them.
"""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from rewardkit.errors import DataError
from rewardkit.scoring.formats.compression import Peeked, compression_of, open_decompressed
from rewardkit.scoring.formats.dataset_folder import HUB, files_of_folder, files_of_hub
from rewardkit.scoring.formats.format import Block, RawRow, Source, format_of

STDIN = "-"
_BLOCK_BYTES = 1 << 20
_HASHED_WHOLE_BYTES = 256 << 20
"""Files up to this size are known by all of their content, larger ones by samples of it and the time of the last change."""
_SAMPLES = 64
_GLOB_CHARACTERS = set("*?[")


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read."""

    name: str
    """The path as the user wrote it, for messages; ``stdin`` for standard input."""
    path: Path
    """Where the file is; standard input and pipes are copied to a temporary file."""
    state: tuple[int, int, int] | None = None
    """Size in bytes, time of the last change and inode when the file was found; None if changes don't matter."""
    is_spooled: bool = False
    """True if the file is a copy of standard input or of a pipe."""

    @property
    def size(self) -> int:
        """Size in bytes when the file was found."""
        return self.path.stat().st_size if self.state is None else self.state[0]

    def identity(self) -> dict[str, Any]:
        """Return the file's place and a hash of its content, by which a later run recognises it.

        Raises:
            DataError: The file can't be read.
        """
        try:
            digest = _content_digest(self.path)
        except OSError as error:
            raise DataError(f"{self.name} can't be read: {error.strerror}") from error
        if self.is_spooled:
            return {"file": self.name, "content": digest}
        return {"file": str(self.path.resolve()), "bytes": self.size, "content": digest}

    def check_unchanged(self) -> None:
        """Compare the file with what it was when it was found.

        Raises:
            DataError: It has changed, so that rows of two versions may be mixed.
        """
        if self.state is None:
            return
        try:
            now = _state(self.path)
        except OSError:
            raise DataError(f"{self.name} was removed while it was read; {_CHANGE_ADVICE}") from None
        if now != self.state:
            what = "replaced" if now[2] != self.state[2] else "changed"
            sizes = f" ({self.state[0]:,} bytes before, {now[0]:,} now)" if now[0] != self.state[0] else ""
            raise DataError(f"{self.name} was {what} while it was read{sizes}; {_CHANGE_ADVICE}")


_CHANGE_ADVICE = "the rows scored so far are kept but may mix two versions of the file: run again with --fresh once it stays as it is"


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _content_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=12)
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size <= _HASHED_WHOLE_BYTES:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()
        digest.update(str(found.st_mtime_ns).encode())
        for number in range(_SAMPLES):
            file.seek((found.st_size - _BLOCK_BYTES // 4) * number // (_SAMPLES - 1))
            digest.update(file.read(_BLOCK_BYTES // 4))
    return f"sampled-{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that are scored together."""

    files: Sequence[str]
    """For each row the name of its file."""
    numbers: Sequence[int]
    """For each row its number in the file, counted from 1; in text files the number of its line."""
    rows: Sequence[RawRow]
    ordinals: Sequence[int]
    """For each row its number in the whole input, counted from 0."""
    consumed: int
    """Rows of the input that are done once this chunk is."""
    position: int = 0
    """Bytes of the input read so far, for progress."""
    types: dict[str, Any] = field(default_factory=dict)
    """The Arrow type of each column, where the file states it."""

    def where(self, index: int) -> str:
        """Return ``file:row`` of the row at an index."""
        return f"{self.files[index]}:{self.numbers[index]}"


def find_inputs(patterns: Sequence[str], *, leave_out: Iterable[Path] = ()) -> list[Input]:
    """Find the files that paths and globs name, each once; those of one glob are sorted by name.

    Args:
        patterns: Paths of files or of data set folders, globs (``**`` goes into folders), ``hf:`` and a name on the hub, or ``-`` for
            standard input. A pipe is read to its end.
        leave_out: Files that a glob must not pick up, such as the output of an earlier run.

    Raises:
        DataError: A pattern names nothing, another folder, a device, or a file that can't be read.
        UsageError: `datasets` is not installed, and a name on the hub is given.
    """
    skip = {path.resolve() for path in leave_out}
    found: dict[Path, Input] = {}
    for pattern in patterns:
        if pattern == STDIN:
            found.setdefault(Path(STDIN), _spool(sys.stdin.buffer, "stdin"))
            continue
        for name, path in _files(pattern, skip):
            if path.resolve() not in found:
                found[path.resolve()] = _input(name, path)
    return list(found.values())


def _files(pattern: str, skip: set[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files that a pattern names, each with its name for messages."""
    if pattern.startswith(HUB) and not Path(pattern).exists():
        yield from ((f"{pattern}/{path.name}", path) for path in files_of_hub(pattern))
        return
    for name in _matches(pattern, skip):
        if Path(name).is_dir():
            yield from ((str(Path(name) / file.name), file) for file in files_of_folder(Path(name), name))
        else:
            yield name, Path(name)


def _matches(pattern: str, skip: set[Path]) -> list[str]:
    if Path(pattern).exists():
        return [pattern]
    if not _GLOB_CHARACTERS & set(pattern):
        raise DataError(f"there is no file {pattern}")
    names = [
        name
        for name in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
        if Path(name).is_file() and Path(name).resolve() not in skip
    ]
    if not names:
        raise DataError(f"no file matches {pattern}")
    return names


def _input(name: str, path: Path) -> Input:
    if not os.access(path, os.R_OK):
        raise DataError(f"{name} can't be read: no permission")
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        with path.open("rb") as stream:
            return _spool(stream, name)
    if not stat.S_ISREG(mode) and path != Path(os.devnull):
        raise DataError(f"{name} is a device or a socket, not a file; for standard input, give -")
    return Input(name, path, _state(path))


def _spool(stream: BinaryIO, name: str) -> Input:
    """Copy standard input or a pipe to a temporary file that is kept until this program ends, since it is read twice."""
    with tempfile.NamedTemporaryFile(prefix="rewardkit-stdin-", delete=False) as file:
        atexit.register(Path(file.name).unlink, missing_ok=True)
        while block := stream.read(_BLOCK_BYTES):
            file.write(block)
    return Input(name, Path(file.name), is_spooled=True)


class Reader:
    """Rows of several files, one file after the other. ``chunks`` can be called as often as needed."""

    def __init__(self, inputs: Sequence[Input], *, max_rows: int = 2048, limit: int | None = None) -> None:
        """Read ``inputs``.

        Args:
            inputs: What ``find_inputs`` returned.
            max_rows: The most rows in a chunk; may be changed while reading.
            limit: Stop after this many rows; None reads all.
        """
        self.inputs = inputs
        self.max_rows = max_rows
        self.limit = limit
        self.total_bytes = sum(item.size for item in inputs)

    def first_rows(self) -> Iterator[Chunk]:
        """Yield the first rows of each file that has any, to find mistakes before long work starts.

        Raises:
            DataError: A file has an unknown format or is damaged at its start, or all files are empty.
        """
        anything = False
        for item in self.inputs:
            for block in read_blocks(item):
                if block.rows:
                    anything = True
                    names = [item.name] * len(block.rows)
                    yield Chunk(names, block.numbers, block.rows, range(len(names)), 0, block.position, block.types)
                    break
        if not anything:
            files = ", ".join(item.name for item in self.inputs)
            raise DataError(f"{files}: no rows; {'the file is' if len(self.inputs) == 1 else 'all files are'} empty")

    def chunks(self, skip: int = 0) -> Iterator[Chunk]:
        """Yield all rows but the first ``skip``.

        Raises:
            DataError: A file is damaged, or changed while it was read.
        """
        ordinal = before = 0
        limit = sys.maxsize if self.limit is None else self.limit
        for item in self.inputs:
            reached = 0
            for block in read_blocks(item):
                rows = block.rows
                end, block_start, reached = 0, reached, block.position
                while end < len(rows):
                    if ordinal >= limit:
                        return
                    start, end = end, min(end + self.max_rows, len(rows), end + limit - ordinal)
                    first = ordinal
                    ordinal += end - start
                    if ordinal <= skip:
                        continue
                    kept = slice(start + max(0, skip - first), end)
                    yield Chunk(
                        [item.name] * (kept.stop - kept.start),
                        block.numbers[kept],
                        rows[kept],
                        range(max(first, skip), ordinal),
                        ordinal,
                        before + block_start + (block.position - block_start) * end // len(rows),
                        block.types,
                    )
            before += item.size

    def check_unchanged(self) -> None:
        """Compare every file with what it was when it was found. Raises DataError where one has changed."""
        for item in self.inputs:
            item.check_unchanged()


def read_blocks(item: Input) -> Iterator[Block]:
    """Yield the rows of one file as its format gives them.

    Raises:
        DataError: The file has a format that can't be read, is damaged, or changed while it was read.
    """
    try:
        raw = item.path.open("rb")
    except OSError as error:
        raise DataError(f"{item.name} can't be read: {error.strerror}") from error
    with raw:
        compression = compression_of(raw.peek(16))
        try:
            stream = Peeked(open_decompressed(raw, compression))
            source = Source(item.name, item.path, item.size, cast("BinaryIO", stream), raw, stream.start, compression)
            known = format_of(source)
            known.refuse(source)
            yield from known.read(source)
        except (OSError, EOFError) as error:
            item.check_unchanged()
            what = "is damaged or cut off" if compression else "can't be read"
            raise DataError(f"{item.name} {what}: {error}") from error
        except DataError:
            item.check_unchanged()
            raise
    item.check_unchanged()
