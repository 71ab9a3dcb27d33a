"""JSON Lines: one JSON object a line, plain or compressed. A segment of an output is lines, compressed as a member of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rewardkit.errors import DataError
from rewardkit.scoring.formats.compression import Peeked, compress, compression_of, open_decompressed
from rewardkit.scoring.formats.format import Block, FileFormat, Part, Payload, RawRow, Source

BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
FOREIGN = {
    b"PK\x03\x04": ("a ZIP archive (or an Excel file)", "unzip it first, or save it as CSV"),
    b"PK\x05\x06": ("an empty ZIP archive", "give its files instead"),
    b"\xfd7zXZ\x00": ("compressed with xz", "decompress it first: xz -d {name}"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "extract it first"),
    b"Rar!": ("a RAR archive", "extract it first"),
    b"\x04\x22\x4d\x18": ("compressed with LZ4", "decompress it first: lz4 -d {name}"),
    b"PARE": ("an encrypted Parquet file", "decrypt it first: write it again without encryption"),
    b"FEA1": ("a Feather file of version 1", "write it again as version 2, with pyarrow.feather.write_feather"),
    b"ORC": ("an ORC file", "convert it to Parquet first"),
    b"Obj\x01": ("an Avro file", "convert it to Parquet first"),
    b"SQLite format 3\x00": ("an SQLite database", "export its rows to CSV first"),
    b"\x89HDF": ("an HDF5 file", "convert it to Parquet first"),
    b"\x93NUMPY": ("a NumPy array", "rows need named columns: convert it to Parquet first"),
    b"\x80\x04\x95": ("a Python pickle", "convert it to Parquet first"),
    b"%PDF": ("a PDF document", "rows come as JSON Lines, Parquet, Arrow or CSV"),
    b"version https://git-lfs": ("a Git LFS pointer", "fetch its content first: git lfs pull"),
}
"""Files that are no JSON Lines, by their first bytes: what they are, and what to do."""
TAR_MAGIC_AT = 257


class JsonLines(FileFormat):
    """JSON Lines."""

    name = "JSON Lines"
    suffixes = (".jsonl", ".ndjson")
    compressions = ("gzip", "zstd", "bz2")
    payload = "lines"

    def recognises(self, name: str, start: bytes) -> bool:  # noqa: ARG002 - what nothing else claims is taken for JSON Lines
        """Return False: it is what a file is taken for when no other format fits."""
        return False

    def refuse(self, source: Source) -> None:
        """Refuse files of formats that can't be read, by name. Raises DataError."""
        start = source.start
        for magic, (what, advice) in FOREIGN.items():
            if start.startswith(magic):
                raise DataError(f"{source.name} is {what}; {advice.format(name=source.name)}")
        if start[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == b"ustar":
            raise DataError(f"{source.name} is a tar archive; extract it first: tar -xf {source.name}")
        if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
            raise DataError(_advise_iconv(source.name, "UTF-32"))
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(_advise_iconv(source.name, "UTF-16"))
        if inner := compression_of(start):
            raise DataError(f"{source.name} is compressed twice ({inner} inside); decompress it once first")

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the lines that hold something."""
        yield from read_lines(source.stream, source.raw)

    def open_part(self, path: Path, compression: str, ends: Sequence[int]) -> Part:  # noqa: ARG002 - lines need no earlier ones
        """Open a file of lines to append to."""
        return LinesPart(path, compression)

    def read_part(self, path: Path, ends: Sequence[int], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:  # noqa: ARG002
        """Yield the rows of a part."""
        from rewardkit.scoring.formats.decode import read_row

        with path.open("rb") as raw:
            start = raw.read(16)
            raw.seek(0)
            stream = open_decompressed(raw, compression_of(start))
            for block in read_lines(stream, raw):
                yield [read_row(row)[0] for row in block.rows]


def _advise_iconv(name: str, encoding: str) -> str:
    return f"{name} is {encoding}; convert it to UTF-8 first: iconv -f {encoding} -t UTF-8 {name} > rows.jsonl"


def read_lines(stream: BinaryIO | Peeked, raw: BinaryIO) -> Iterator[Block]:
    """Yield the lines that hold something, a block at a time. A line may be longer than a block.

    Args:
        stream: The text.
        raw: The file whose position tells how much has been read.
    """
    number = 0
    tail: list[bytes] = []
    first = True
    while block := stream.read(BLOCK_BYTES):
        if first:
            block = block.removeprefix(BOM)
            first = False
        lines = block.split(b"\n")
        rest = lines.pop()
        if not lines:
            tail.append(rest)
            continue
        if tail:
            lines[0] = b"".join((*tail, lines[0]))
        tail = [rest] if rest else []
        yield _numbered(lines, number, raw.tell())
        number += len(lines)
    if tail:
        yield _numbered([b"".join(tail)], number, raw.tell())


def _numbered(lines: list[bytes], before: int, position: int) -> Block:
    rows: Sequence[RawRow] = lines
    if all(lines) and not any(map(bytes.isspace, lines)):
        return Block(rows, range(before + 1, before + 1 + len(lines)), position)
    numbers = [number for number, line in enumerate(lines, before + 1) if line and not line.isspace()]
    return Block([lines[number - before - 1] for number in numbers], numbers, position)


class LinesPart:
    """Lines of JSON, plain or compressed."""

    def __init__(self, path: Path, compression: str = "") -> None:
        self._path = path
        self._compression = compression
        self._lines: list[bytes] = []

    def write(self, payload: Payload, place: str) -> int:  # noqa: ARG002 - any line can be written
        """Add lines."""
        assert isinstance(payload, list)  # noqa: S101
        self._lines += payload
        return sum(map(len, payload))

    def commit(self) -> int:
        """Compress the segment, if that is asked for, and append it."""
        data = compress(b"".join(self._lines), self._compression)
        self._lines = []
        with self._path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def finish(self, ends: Sequence[int], rewritten: Path) -> Path:  # noqa: ARG002 - nothing is left to do
        """Return the part: its segments are the complete file."""
        return self._path


FORMAT = JsonLines()
