"""Reading rows of JSON from a place in a file on, with the byte after each row, so that a growing file is read only once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pyarrow as pa

from rewardkit.errors import DataError

Rows: TypeAlias = Iterator[tuple[dict[str, Any], int]]
"""Scored rows, each with the byte after it in its file; 0 where the file is read whole."""

BLOCK = 1 << 20


def json_lines(path: Path, at: int = 0) -> Rows:
    """Yield the objects of a JSON Lines file, which may be compressed. A last line that is still being written is left out.

    Args:
        path: The file.
        at: The byte to begin at; 0 for compressed files.

    Raises:
        DataError: The file can't be read, or a line is not an object.
    """
    number, position = 0, at
    try:
        with pa.input_stream(path, compression="detect") as stream:
            if at:
                stream.seek(at)
            tail = b""
            for block in iter(partial(stream.read, BLOCK), b""):
                *lines, tail = (tail + block).split(b"\n")
                for line in lines:
                    number, position = number + 1, position + len(line) + 1
                    if line.strip():
                        yield _object(line, path, number, at), position
            if tail.strip():
                try:
                    row = orjson.loads(tail)
                except orjson.JSONDecodeError:
                    return
                if isinstance(row, dict):
                    yield row, position + len(tail)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read: {error}") from error


def first_object(path: Path) -> dict[str, Any] | None:
    """Return the first object of a JSON Lines file, or None if there is none. Raises DataError."""
    return next((row for row, _ in json_lines(path)), None)


def json_document(path: Path) -> Any:
    """Return the content of a JSON file. Python's NaN and Infinity become null.

    Raises:
        DataError: It can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error}") from error
    return parse(data, str(path))


def parse(data: bytes, where: str) -> Any:
    """Parse JSON in which NaN and Infinity may occur, which become null. Raises DataError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        import json

        try:
            return json.loads(data, parse_constant=lambda _: None)
        except ValueError:
            raise DataError(f"{where} is not JSON: {error}") from None


def _object(line: bytes, path: Path, number: int, at: int) -> dict[str, Any]:
    where = f"{path}:{number}" if not at else f"{path}, line {number} after byte {at}"
    row = parse(line, where)
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object but {type(row).__name__}")
    return row
