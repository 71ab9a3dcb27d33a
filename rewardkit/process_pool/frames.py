"""The messages between a pool and its workers: a fixed header, then a pickle."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("<4sQQ")
_MAGIC = b"rkpp"


class GarbledError(Exception):
    """The bytes are not a message: somebody else wrote to the socket."""


def frame(number: int, payload: bytes) -> tuple[bytes, bytes]:
    """Return the header and the payload of one message.

    Args:
        number: The task's number.
        payload: The task or its result.
    """
    return _HEADER.pack(_MAGIC, number, len(payload)), payload


class FrameReader:
    """Puts messages together from the bytes of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_partial(self) -> bool:
        """True if the beginning of a message has arrived without its end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the number and payload of every message that `data` completes.

        Raises:
            GarbledError: The bytes are not a message.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            magic, number, length = _HEADER.unpack_from(self._buffer)
            if magic != _MAGIC:
                raise GarbledError
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[_HEADER.size : end])
            del self._buffer[:end]
            yield number, payload
