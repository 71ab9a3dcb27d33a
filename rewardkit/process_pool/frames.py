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
    """Puts messages together from the bytes of a stream. Each byte of a payload is copied once."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._payload: bytearray | None = None
        """What has arrived of the payload; None before its header is complete."""
        self._number = self._missing = 0

    @property
    def is_partial(self) -> bool:
        """True if the beginning of a message has arrived without its end."""
        return bool(self._header)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | bytearray]]:
        """Yield the number and payload of every message that `data` completes.

        Raises:
            GarbledError: The bytes are not a message.
        """
        rest = memoryview(data)
        while rest:
            if self._payload is None:
                lacking = _HEADER.size - len(self._header)
                self._header += rest[:lacking]
                rest = rest[lacking:]
                if len(self._header) < _HEADER.size:
                    return
                magic, self._number, self._missing = _HEADER.unpack(self._header)
                if magic != _MAGIC:
                    raise GarbledError
                self._payload = bytearray()
            piece = rest[: self._missing]
            self._payload += piece
            self._missing -= len(piece)
            rest = rest[len(piece) :]
            if self._missing:
                return
            payload, self._payload = self._payload, None
            self._header.clear()
            yield self._number, payload
