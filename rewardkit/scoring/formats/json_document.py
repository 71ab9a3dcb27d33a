"""JSON documents: an array of objects, or objects that are printed over several lines. Only read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit.scoring.formats.format import Block, FileFormat, Source
from rewardkit.scoring.formats.jsonl import BLOCK_BYTES, BOM

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
"""A whole string, the start of one that is cut off, a bracket or a comma."""
_ROWS = 1024


class JsonDocument(FileFormat):
    """A JSON array of rows, or pretty-printed objects one after the other."""

    name = "JSON"
    suffixes = (".json",)
    compressions = ("gzip", "zstd", "bz2")

    def recognises(self, name: str, start: bytes) -> bool:  # noqa: ARG002 - content tells
        """Return whether the first line opens an array, or an object that it does not close."""
        text = start.removeprefix(BOM).lstrip()
        if text.startswith(b"["):
            return True
        line, newline, rest = text.partition(b"\n")
        line = line.strip()
        is_open = line.startswith(b"{") and line.endswith((b"{", b"[", b","))
        return bool(newline) and is_open and not rest.lstrip().startswith(b"{")

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the objects as they stand in the document, each with the number of the line on which it begins."""
        rows: list[bytes] = []
        numbers: list[int] = []
        for row, number in _elements(source):
            rows.append(row)
            numbers.append(number)
            if len(rows) >= _ROWS:
                yield Block(rows, numbers, source.raw.tell())
                rows, numbers = [], []
        if rows:
            yield Block(rows, numbers, source.raw.tell())


def _elements(source: Source) -> Iterator[tuple[bytes, int]]:
    """Yield the elements of the array, or the values outside of one, as bytes."""
    text = source.stream.read(BLOCK_BYTES).removeprefix(BOM)
    line = 1
    size = BLOCK_BYTES
    lead = len(text) - len(text.lstrip())
    in_array = text[lead:].startswith(b"[")
    if in_array:
        line += text.count(b"\n", 0, lead)
        text = text[lead + 1 :]
    while True:
        begin = 0
        for end, following in _ends(text, in_array=in_array):
            row = text[begin:end]
            skipped = len(row) - len(row.lstrip())
            if row.strip():
                yield row.strip(), line + row.count(b"\n", 0, skipped)
            line += text.count(b"\n", begin, following)
            begin = following
        rest = text[begin:]
        size = BLOCK_BYTES if begin else size * 2
        more = source.stream.read(size)
        if not more:
            last = rest.strip()
            if last and not (in_array and last == b"]"):
                yield last, line + rest.count(b"\n", 0, len(rest) - len(rest.lstrip()))
            return
        text = rest + more


def _ends(text: bytes, *, in_array: bool) -> Iterator[tuple[int, int]]:
    """Yield where each whole element ends, and where what follows it begins."""
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign == b'"':  # the rest of the string is not read yet
            return
        if sign in b"[{":
            depth += 1
        elif sign == b",":
            if depth == 0 and in_array:
                yield token.start(), token.end()
        elif sign in b"]}":
            depth -= 1
            if depth < 0:  # the end of the array
                yield token.start(), token.end()
                return
            if depth == 0 and not in_array:
                yield token.end(), token.end()


FORMAT = JsonDocument()
