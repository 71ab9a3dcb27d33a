"""Read-only copies of the values of a row, so that a reward cannot change what the next one reads.

They are real dicts and lists: they can be indexed, compared, serialized and pickled as usual. Only changing them raises TypeError.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

_IMMUTABLE = frozenset({str, int, float, bool, type(None), bytes, Decimal, dt.datetime, dt.date, dt.time, dt.timedelta})
FLAT_TYPES = frozenset({str, int, bool, type(None), bytes})
"""Types whose values need no copy and are never NaN."""
_TEXT_FOR_NO_VALUE = frozenset({"", "<NA>", "NaN", "nan", "NaT", "None"})
"""Texts that data tools write where there is no value."""


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    kind = "dict" if isinstance(self, dict) else "list"
    raise TypeError(
        f"this {kind} belongs to a rollout, which is read-only because other rewards read it too: "
        f"change a copy of it, such as {kind}(value) or copy.deepcopy(value)"
    )


class ReadOnlyDict(dict[str, Any]):
    """A dict that cannot be changed. Its copies can."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    pop = popitem = clear = update = setdefault = _refuse

    def copy(self) -> dict[str, Any]:
        """Return a dict with the same values."""
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Return a copy that can be changed at every level."""
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it is."""
        return ReadOnlyDict, (dict(self),)


class ReadOnlyList(list[Any]):
    """A list that cannot be changed. Its copies can."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def copy(self) -> list[Any]:
        """Return a list with the same items."""
        return list(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        """Return a copy that can be changed at every level."""
        return copy.deepcopy(list(self), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it is."""
        return ReadOnlyList, (list(self),)


def read_only(value: Any) -> Any:
    """Return a value with every dict, list, set and NumPy array in it replaced by a read-only copy or view.

    NumPy scalars become Python's numbers and texts. Objects of other types are returned as they are.
    """
    kind = type(value)
    if kind in _IMMUTABLE or kind is ReadOnlyDict or kind is ReadOnlyList:
        return value
    if isinstance(value, list):
        return ReadOnlyList([read_only(item) for item in value])
    if isinstance(value, Mapping):
        return ReadOnlyDict({name: read_only(item) for name, item in value.items()})
    if kind is tuple:
        return tuple([read_only(item) for item in value])
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, bytearray):
        return bytes(value)
    return _from_numpy(value) if kind.__module__ == "numpy" else value


def read_only_fields(fields: Mapping[str, Any]) -> ReadOnlyDict:
    """Return the fields of a rollout, read-only. NaN, ``pandas.NA`` and NaT become None."""
    if type(fields) is ReadOnlyDict:
        return fields
    if FLAT_TYPES.issuperset(map(type, fields.values())):
        return ReadOnlyDict(fields)
    return ReadOnlyDict({name: None if _is_null(value) else read_only(value) for name, value in fields.items()})


def has_value(value: Any) -> bool:
    """Return False for None, NaN, NA, NaT, and for empty text, lists, dicts and arrays."""
    if value is None:
        return False
    if isinstance(value, str):
        return value not in _TEXT_FOR_NO_VALUE and not value.isspace()
    if isinstance(value, list | tuple | dict | bytes):
        return len(value) > 0
    return not _is_null(value) and 0 not in _shape(value)


def have_values(values: Sequence[Any]) -> bool:
    """Return True if `has_value` is true of all values."""
    if set(map(type, values)) == {str}:
        return _TEXT_FOR_NO_VALUE.isdisjoint(values) and not any(map(str.isspace, values))
    return all(map(has_value, values))


def _is_null(value: Any) -> bool:
    """Return True for NaN, ``pandas.NA`` and NaT."""
    kind = type(value)
    if kind is float:
        return math.isnan(value)
    if kind is Decimal:
        return bool(value.is_nan())
    if kind in _IMMUTABLE or isinstance(value, str | list | tuple | dict) or _shape(value) != ():
        return False
    if kind.__name__ in {"NAType", "NaTType"}:  # without importing pandas
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN of NumPy and others
    # The boundary: comparing an object of any type may do anything.
    except Exception:  # noqa: BLE001
        return False


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of an array; () for anything else."""
    shape = getattr(type(value), "shape", None) and value.shape
    return tuple(shape) if isinstance(shape, tuple) else ()


def _from_numpy(value: Any) -> Any:
    """Return a NumPy scalar as Python's own type, and an array as a view that cannot be written to."""
    if getattr(value, "ndim", None) == 0:
        item: Callable[[], Any] = value.item
        plain = item()
        return plain if type(plain) in _IMMUTABLE else value
    view = getattr(value, "view", None)
    if view is None:
        return value
    array = view()
    array.flags.writeable = False
    return array
