"""Arrow arrays of texts and numbers, made from Python's own buffers.

``pyarrow.array`` imports pandas where it is installed, which costs each process 55 MB and a third of a second. For values of one plain type
this is not needed. The arrays are equal to those that ``pyarrow.array`` makes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def plain_array(values: Sequence[Any], types: set[type], wanted: pa.DataType | None) -> pa.Array | None:
    """Return values of one plain type as an array, or None if ``pyarrow.array`` must make it.

    Args:
        values: The values.
        types: The types of the values.
        wanted: The Arrow type that the array must have; None for the usual one.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate.
    """
    import pyarrow as pa

    try:
        if types == {str} and wanted in (None, pa.string()):
            return _text_array(values)
        if types == {str, type(None)} and wanted in (None, pa.string()):
            return _text_array(["" if value is None else value for value in values], _validity(values))
        if types == {float} and wanted in (None, pa.float64()):
            return _number_array(array("d", values), pa.float64())
        if types == {int} and wanted in (None, pa.int64()):
            return _number_array(array("q", values), pa.int64())
    except OverflowError:  # integers beyond 64 bits, or more than 2 GB of text
        pass
    return None


def constant_texts(value: str, count: int) -> pa.Array:
    """Return an array that holds one text ``count`` times."""
    return _text_array([value] * count)


def constant_numbers(value: float, count: int) -> pa.Array:
    """Return an array that holds one number ``count`` times."""
    import pyarrow as pa

    return _number_array(array("d", [value]) * count, pa.float64())


def _validity(values: Sequence[Any]) -> bytes:
    """Return a bit for each value, 0 where it is None, the first value's the lowest bit."""
    bits = "".join(["0" if value is None else "1" for value in reversed(values)])
    return int(bits, 2).to_bytes((len(bits) + 7) // 8, "little")


def _text_array(values: Sequence[str], validity: bytes | None = None) -> pa.Array:
    import pyarrow as pa

    joined = "".join(values)
    if joined.isascii():
        offsets = array("i", accumulate(map(len, values), initial=0))
        data = joined.encode()
    else:
        parts = [value.encode() for value in values]
        offsets = array("i", accumulate(map(len, parts), initial=0))
        data = b"".join(parts)
    known = None if validity is None else pa.py_buffer(validity)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(data), known)


def _number_array(numbers: array[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
