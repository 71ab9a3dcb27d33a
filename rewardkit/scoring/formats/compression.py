"""Compressed files: reading through gzip, Zstandard and bzip2, and compressing one segment of an output."""

from __future__ import annotations

import bz2
import zlib
from typing import Any, BinaryIO, cast

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    **{bytes([number, 0x2A, 0x4D, 0x18]): "zstd" for number in range(0x50, 0x60)},
}
"""First bytes of compressed files. Zstandard files may begin with a frame to be skipped (0x184D2A50 to 0x184D2A5F)."""
_FRAME_HEAD = 8
_BLOCK_BYTES = 1 << 20


def compression_of(start: bytes) -> str:
    """Return the name of a file's compression, told by its first bytes; empty if there is none."""
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")


def open_decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    """Return a stream of a file's decompressed content. Reading it raises OSError where the file is damaged.

    Args:
        raw: The file.
        compression: What ``compression_of`` returned.
    """
    if not compression:
        return raw
    if compression == "bz2":
        return cast("BinaryIO", bz2.BZ2File(raw))
    import pyarrow as pa

    if compression == "zstd":
        _skip_leading_frames(raw)
    return cast("BinaryIO", _Reading(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)))


def _skip_leading_frames(raw: BinaryIO) -> None:
    """Move past the skippable frames at the start of a Zstandard file, which Arrow would take for the end."""
    while True:
        place = raw.tell()
        head = raw.read(_FRAME_HEAD)
        if len(head) < _FRAME_HEAD or head[1:4] != b"\x2a\x4d\x18" or not 0x50 <= head[0] <= 0x5F:
            raw.seek(place)
            return
        raw.seek(int.from_bytes(head[4:], "little"), 1)


class _Reading:
    """An Arrow stream with the methods that this package and the standard library ask of a file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes; fewer than asked for only at the end."""
        if size < 0:
            return bytes(self._stream.read())
        parts: list[bytes] = []
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def compress(data: bytes, compression: str) -> bytes:
    """Return data as a gzip member, a Zstandard frame or a bzip2 stream, which may follow others in a file."""
    if not data or not compression:
        return data
    if compression == "gzip":
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        return packer.compress(data) + packer.flush()
    if compression == "bz2":
        return bz2.compress(data)
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


class Peeked:
    """A stream whose first bytes have been read already and are read once more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.start = stream.read(_BLOCK_BYTES)
        self._rest = self.start

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes."""
        if not self._rest:
            return self._stream.read(size)
        if size < 0:
            data, self._rest = self._rest + self._stream.read(), b""
            return data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
