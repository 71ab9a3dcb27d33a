"""Raw rows out of files: JSON Lines (plain, gzip, Zstandard), Parquet, and standard input.

A row is not understood here: a line stays bytes, a Parquet row becomes a dict. What kind a file is, its first bytes tell and not
its name. Rows come in chunks that know where they are from, so that whatever is wrong with one can be told with file and line.
"""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from rewardkit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

STDIN = "-"
RawRow: TypeAlias = bytes | dict[str, Any]
"""A line of JSON without its end, or a row of a Parquet file."""

_BLOCK_BYTES = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet"}
_BOM = b"\xef\xbb\xbf"
_GLOB_CHARACTERS = set("*?[")


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read."""

    name: str
    """As the user wrote it, for messages; ``stdin`` for standard input."""
    path: Path
    """Where it lies; standard input was copied to a temporary file."""
    digest: str = ""
    """Of standard input, what stands for its content."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def identity(self) -> dict[str, Any]:
        """What tells whether this is still the same input as in an earlier run."""
        if self.digest:
            return {"file": self.name, "content": self.digest}
        stat = self.path.stat()
        return {"file": str(self.path.resolve()), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that are worked on together."""

    files: Sequence[str]
    """For each row the name of its file."""
    numbers: Sequence[int]
    """For each row its place in the file, counted from 1; in a JSON Lines file its line."""
    rows: Sequence[RawRow]
    ordinals: Sequence[int]
    """For each row its place in the whole input, counted from 0."""
    consumed: int
    """Rows of the input that are dealt with once this chunk is."""
    position: int = 0
    """Bytes of the input read so far, for progress."""
    types: dict[str, Any] = field(default_factory=dict)
    """The Arrow type of each column, where the file says it."""

    def where(self, index: int) -> str:
        """``file:line`` of a row."""
        return f"{self.files[index]}:{self.numbers[index]}"


def find_inputs(patterns: Sequence[str], *, leave_out: Iterable[Path] = ()) -> list[Input]:
    """The files that paths and globs name, each once; those of one glob sorted by name.

    Args:
        patterns: Paths, globs (``**`` goes into folders), or ``-`` for standard input.
        leave_out: Files that a glob must not pick up, such as the output of an earlier run.

    Raises:
        DataError: One names nothing, or a folder, or a file that can't be read.
    """
    skip = {path.resolve() for path in leave_out}
    found: dict[Path, Input] = {}
    for pattern in patterns:
        if pattern == STDIN:
            found.setdefault(Path(STDIN), _spooled(sys.stdin.buffer))
            continue
        names = [pattern]
        if not Path(pattern).exists():
            if not _GLOB_CHARACTERS & set(pattern):
                raise DataError(f"there is no file {pattern}")
            names = [
                name
                for name in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
                if Path(name).is_file() and Path(name).resolve() not in skip
            ]
            if not names:
                raise DataError(f"no file matches {pattern}")
        for name in names:
            path = Path(name)
            if path.is_dir():
                raise DataError(f"{name} is a folder; name its files, such as {str(path / '*.jsonl')!r}")
            if not os.access(path, os.R_OK):
                raise DataError(f"{name} can't be read: no permission")
            found.setdefault(path.resolve(), Input(name, path))
    return list(found.values())


def _spooled(stream: BinaryIO) -> Input:
    """Standard input, kept in a temporary file until this program ends, so that it can be read twice and told apart."""
    digest = hashlib.blake2b(digest_size=12)
    with tempfile.NamedTemporaryFile(prefix="rewardkit-stdin-", delete=False) as file:
        atexit.register(Path(file.name).unlink, missing_ok=True)
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
    return Input("stdin", Path(file.name), digest.hexdigest())


class Reader:
    """Rows of several files, one after the other. Iterate with ``chunks``, as often as you like."""

    def __init__(self, inputs: Sequence[Input], *, max_rows: int = 2048, limit: int | None = None) -> None:
        """Read ``inputs``.

        Args:
            inputs: What ``find_inputs`` gave.
            max_rows: The most rows in a chunk; may be changed while reading.
            limit: Stop after that many rows.
        """
        self.inputs = inputs
        self.max_rows = max_rows
        self.limit = limit
        self.total_bytes = sum(item.size for item in inputs)

    def first_rows(self) -> Iterator[Chunk]:
        """The first rows of each file that has any, to find what is wrong before long work starts.

        Raises:
            DataError: A file is of no known kind or damaged at its start, or all files are empty.
        """
        anything = False
        for item in self.inputs:
            for rows, numbers, position, types in _read(item):
                if rows:
                    anything = True
                    yield Chunk([item.name] * len(rows), numbers, rows, range(len(rows)), 0, position, types)
                    break
        if not anything:
            names = ", ".join(item.name for item in self.inputs)
            raise DataError(f"{names}: no rows; {'the file is' if len(self.inputs) == 1 else 'all files are'} empty")

    def chunks(self, skip: int = 0) -> Iterator[Chunk]:
        """All rows, less the first ``skip``.

        Raises:
            DataError: A file is damaged.
        """
        ordinal = before = 0
        limit = sys.maxsize if self.limit is None else self.limit
        for item in self.inputs:
            reached = 0
            for rows, numbers, position, types in _read(item):
                end, block_start, reached = 0, reached, position
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
                        numbers[kept],
                        rows[kept],
                        range(max(first, skip), ordinal),
                        ordinal,
                        before + block_start + (position - block_start) * end // len(rows),
                        types,
                    )
            before += item.size


_Read: TypeAlias = Iterator[tuple[Sequence[RawRow], Sequence[int], int, dict[str, Any]]]


def _read(item: Input) -> _Read:
    """Rows, their numbers, the position in the file after them, and the columns' types."""
    try:
        raw = item.path.open("rb")
    except OSError as error:
        raise DataError(f"{item.name} can't be read: {error.strerror}") from error
    with raw:
        start = raw.peek(_BLOCK_BYTES)
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "plain")
        if kind == "parquet":
            yield from _parquet_rows(item)
        elif kind == "plain":
            _refuse_other_kinds(item, start)
            yield from _lines(raw, raw)
        else:
            import pyarrow as pa  # noqa: PLC0415 - plain JSON Lines need no Arrow

            first = True
            try:
                with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), kind) as stream:
                    for part in _lines(stream, raw):
                        if first and part[0]:
                            _refuse_other_kinds(item, cast("bytes", part[0][0]))
                            first = False
                        yield part
            except OSError as error:
                raise DataError(f"{item.name} is damaged or cut off: {error}") from error


def _refuse_other_kinds(item: Input, start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{item.name} is UTF-16; convert it to UTF-8 first: iconv -f UTF-16 -t UTF-8 {item.name} > rows.jsonl"
        )
    if start.removeprefix(_BOM).lstrip().startswith(b"["):
        raise DataError(
            f"{item.name} is one JSON array, not a row per line; convert it first: jq -c '.[]' {item.name} > rows.jsonl"
        )


def _lines(stream: Any, raw: BinaryIO) -> _Read:
    """Lines that hold something, a block at a time. A line may be longer than a block."""
    number = 0
    tail: list[bytes] = []
    first = True
    while block := stream.read(_BLOCK_BYTES):
        if first:
            block = block.removeprefix(_BOM)
            first = False
        head, newline, rest = block.rpartition(b"\n")
        if not newline:
            tail.append(block)
            continue
        tail.append(head)
        lines = b"".join(tail).split(b"\n")
        tail = [rest] if rest else []
        yield _number(lines, number, raw.tell())
        number += len(lines)
    if tail:
        yield _number([b"".join(tail)], number, raw.tell())


def _number(
    lines: list[bytes], before: int, position: int
) -> tuple[Sequence[RawRow], Sequence[int], int, dict[str, Any]]:
    if all(lines) and not any(line.isspace() for line in lines):
        return lines, range(before + 1, before + 1 + len(lines)), position, {}
    numbers = [number for number, line in enumerate(lines, before + 1) if line and not line.isspace()]
    return [lines[number - before - 1] for number in numbers], numbers, position, {}


def _parquet_rows(item: Input) -> _Read:
    import pyarrow as pa  # noqa: PLC0415 - only Parquet needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(item.path)
        types = {field.name: field.type for field in file.schema_arrow}
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            rows = _without_nanoseconds(batch).to_pylist()
            position = int(item.size * (number + len(rows)) / max(1, file.metadata.num_rows))
            yield rows, range(number + 1, number + 1 + len(rows)), position, types
            number += len(rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{item.name} is no Parquet file that can be read: {error}") from error


def _without_nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Python's times end at microseconds."""
    import pyarrow as pa  # noqa: PLC0415

    for index, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            values = batch.column(index).cast(pa.timestamp("us", column.type.tz), safe=False)
            batch = batch.set_column(index, column.name, values)
    return batch
