"""LiveCodeBench's private tests: JSON text, pickled, compressed with zlib, in base64.

The pickle comes from a data set, so it is read by an unpickler that builds only plain data: no global is looked up, nothing is
called, and no opcode makes it reserve memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import pickle
import pickletools
import re
import zlib
from typing import Any, NoReturn

from rewardkit_code.row_tests.types import UnusableTests

MAX_BYTES = 512 << 20
"""The largest size of the tests when decompressed."""
_PACKED = re.compile(r"(?:eJ|eN|eA|eF|gA)[A-Za-z0-9+/\s]*={0,2}\s*", re.ASCII)
"""Base64 of what begins as zlib or pickle data begins."""
_MAX_MEMO = 1 << 20
_BUILDING = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"}
)
"""The opcodes that look up or call anything."""
_EXTENSIONS = ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler without any global."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"the global {module_name}.{global_name}")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError(f"the persistent id {pid!r}")


def is_packed(text: str) -> bool:
    """Return whether a text looks like packed tests rather than JSON or code."""
    return len(text) >= 16 and _PACKED.fullmatch(text.strip()) is not None


def unpack(text: str) -> Any:
    """Return the text or plain data that packed tests hold.

    Raises:
        UnusableTests: The text is damaged, too large, or holds anything but plain data.
    """
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
        if not data.startswith(b"\x80"):
            data = _decompressed(data)
        return _unpickled(data) if data.startswith(b"\x80") else data.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise UnusableTests(f"the packed tests can't be decoded: {error}") from error


def _decompressed(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    plain = decompressor.decompress(data, MAX_BYTES)
    if decompressor.unconsumed_tail:
        raise UnusableTests(f"the packed tests are larger than {MAX_BYTES >> 20} MiB when decompressed")
    if not decompressor.eof:
        raise UnusableTests("the packed tests are cut off")
    return plain


def _unpickled(data: bytes) -> Any:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _BUILDING or opcode.name in _EXTENSIONS:
                raise UnusableTests(f"the packed tests hold more than plain data: the pickle opcode {opcode.name}")
            if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > _MAX_MEMO:
                raise UnusableTests("the packed tests are damaged: a memo index out of range")
        return _PlainUnpickler(io.BytesIO(data)).load()
    # A damaged pickle may raise any of these.
    except (pickle.UnpicklingError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UnusableTests):
            raise
        raise UnusableTests(f"the packed tests can't be unpickled: {error}") from error
