"""Comma- and tab-separated values with a header line. Only read: every value is text, and an empty cell is a missing value."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, cast

from rewardkit.errors import DataError
from rewardkit.scoring.formats.format import Block, FileFormat, RawRow, Source, UnreadableRow

_ROWS = 1024
_FIELD_BYTES = 1 << 30
_NAME = re.compile(r"[\w .:/()\[\]-]+")
_KEPT_EMPTY = frozenset({"prompt", "completion"})
"""Columns in which an empty cell is an empty text."""


class Csv(FileFormat):
    """CSV, TSV and semicolon-separated values."""

    name = "CSV"
    suffixes = (".csv", ".tsv")
    compressions = ("gzip", "zstd", "bz2")

    def recognises(self, name: str, start: bytes) -> bool:
        """Return True if the name has the suffix, or the first line is a header and no line is a JSON object."""
        if name.endswith(self.suffixes):
            return True
        text = start.decode("utf-8-sig", "replace")
        line = text.partition("\n")[0].strip("\r")
        if re.search(r"^\s*[{\[]", text, re.MULTILINE) or not line:
            return False
        names = [cell.strip(' "') for cell in line.split(_delimiter(line))]
        return len(names) > 1 and len(set(names)) == len(names) and all(_NAME.fullmatch(cell) for cell in names)

    def refuse(self, source: Source) -> None:
        """Refuse text that is not UTF-8, and headers that can't name columns. Raises DataError."""
        if b"\0" in source.start:
            raise DataError(
                f"{source.name} is no CSV file: it holds NUL bytes; is it UTF-16? Convert it to UTF-8 first"
            )

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the rows under the header."""
        csv.field_size_limit(_FIELD_BYTES)
        delimiter = _delimiter(source.start.decode("utf-8-sig", "replace").partition("\n")[0])
        text = io.TextIOWrapper(cast("Any", _Readable(source)), "utf-8-sig", "surrogateescape", newline="")
        lines = csv.reader(text, delimiter=delimiter, strict=True)
        names: list[str] | None = None
        rows: list[RawRow] = []
        numbers: list[int] = []
        while True:
            number = lines.line_num + 1
            try:
                cells = next(lines, None)
            except csv.Error as error:
                rows.append(UnreadableRow(f"not CSV: {error}", ""))
                numbers.append(number)
                continue
            if cells is None:
                break
            if not cells:
                continue
            if names is None:
                names = _header(cells, source.name)
                continue
            rows.append(_row(names, cells, delimiter))
            numbers.append(number)
            if len(rows) >= _ROWS:
                yield Block(rows, numbers, source.raw.tell())
                rows, numbers = [], []
        if rows:
            yield Block(rows, numbers, source.raw.tell())


class _Readable(io.RawIOBase):
    """A raw stream of a source's content, as ``io.TextIOWrapper`` needs it."""

    def __init__(self, source: Source) -> None:
        self._stream = source.stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _header(cells: list[str], name: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    double = next((cell for cell in names if names.count(cell) > 1), None)
    if double is not None:
        raise DataError(f"{name}: two columns are called {double!r}; rename one of them")
    return names


def _row(names: list[str], cells: list[str], delimiter: str) -> RawRow:
    raw = delimiter.join(cells)
    if len(cells) != len(names):
        return UnreadableRow(f"{len(cells)} values, but the header names {len(names)} columns", raw)
    if any("\udc80" <= character <= "\udcff" for character in raw):
        return UnreadableRow("not UTF-8", raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    row: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        row[name] = cell if cell or name in _KEPT_EMPTY else None
    tokens = row.get("num_tokens")
    if isinstance(tokens, str) and tokens.strip().isascii() and tokens.strip().isdigit():
        row["num_tokens"] = int(tokens)
    return row


FORMAT = Csv()
