"""Plain values as tagged JSON: typed, bounded, and nothing in it can execute.

Both sides use it: the box encodes what a call returned, the host decodes. Decoding yields exact builtin types only, so
that comparing them runs no code of the program's. Subclasses are taken by the content of their builtin base (a `str`
subclass with a forged `__eq__` becomes the plain string it holds), everything else becomes `Opaque`, equal to nothing.

    None true 1 1.5 "s"     themselves (integers beyond 2**53 as {"i": "0x…"}, floats not finite as {"f": "nan"})
    {"l": […]} {"t": […]} {"s": […]} {"z": […]}   list, tuple, set, frozenset
    {"d": [[k, v], …]}      dict
    {"b": "hex"} {"c": [re, im]} {"n": ["Decimal", "1.0"]} {"n": ["Fraction", "1/3"]}
    {"r": ["opaque", 7]}    an object that stays where it is (its type's name and a handle)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 100
MAX_NODES = 2_000_000
_ALIKE = 50
_EXACT = 2**53


class CodecError(ValueError):
    """A value that can't be encoded within the limits, or bytes that are no encoded value."""


class Opaque:
    """A value of a type that is not carried over. Equal to nothing, itself included."""

    __slots__ = ("handle", "type_name")

    def __init__(self, type_name: str, handle: int = 0) -> None:
        self.type_name = printable(type_name)
        self.handle = handle

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.type_name} object>"


def printable(text: str) -> str:
    """Text for messages: what a terminal or a file could choke on (lone surrogates, control characters) is U+FFFD."""
    return "".join([letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text])


class _Encoder:
    def __init__(self, keep: Callable[[Any], int] | None) -> None:
        self.keep = keep
        self.nodes = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise CodecError("the value is nested too deeply or too large")
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_EXACT < value < _EXACT else {"i": hex(value)}
        if kind is str:
            return value
        if kind is float:
            return value if value - value == 0 else {"f": repr(value)}
        if kind is list:
            return {"l": [self.encode(item, depth + 1) for item in value]}
        if kind is tuple:
            return {"t": [self.encode(item, depth + 1) for item in value]}
        if kind is dict:
            return {"d": [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]}
        if kind is set or kind is frozenset:
            return {"s" if kind is set else "z": [self.encode(item, depth + 1) for item in value]}
        if kind is bytes or kind is bytearray:
            return {"b": value.hex()}
        if kind is complex:
            return {"c": [repr(value.real), repr(value.imag)]}
        if kind is Decimal or kind is Fraction:
            return {"n": [kind.__name__, str(value)]}
        return self._encode_other(value, kind, depth)

    def _encode_other(self, value: Any, kind: Any, depth: int) -> Any:
        """Subclasses of builtins by their base's content, numpy scalars and arrays as plain numbers and lists."""
        for base in kind.__mro__:
            if base in _BASE_CONTENT:
                return self.encode(_BASE_CONTENT[base](value), depth)
        if kind.__module__ == "numpy" and kind.__name__ != "ndarray" and hasattr(kind, "item"):
            plain = kind.item(value)
            if type(plain) in (bool, int, float, complex, str, bytes):
                return self.encode(plain, depth)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            return self.encode(kind.tolist(value), depth)
        return {"r": [str(kind.__name__)[:200], self.keep(value) if self.keep else 0]}


_BASE_CONTENT: dict[type, Callable[[Any], Any]] = {
    str: lambda v: str.__getitem__(v, slice(None)) if type(v) is str else str.join("", str.__iter__(v)),
    int: lambda v: int.__add__(v, 0),
    float: lambda v: float.__add__(v, 0.0),
    bytes: lambda v: bytes(bytes.__iter__(v)),
    list: lambda v: list(list.__iter__(v)),
    tuple: lambda v: tuple(tuple.__iter__(v)),
    dict: lambda v: dict(dict.items(v)),
    set: lambda v: set(set.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
}


def encode(value: Any, keep: Callable[[Any], int] | None = None) -> Any:
    """The JSON-able tree of a value. `keep` (object → handle) is asked for objects that can't be carried over."""
    try:
        return _Encoder(keep).encode(value)
    except RecursionError:
        raise CodecError("the value is nested too deeply") from None


def decode(tree: Any, opaque: Callable[[str, int], Any] = Opaque) -> Any:
    """The plain value of a tree made by `encode`.

    Raises:
        CodecError: it is none, or is nested too deeply.
    """
    try:
        return _decode(tree, opaque, 0)
    except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise CodecError(f"not an encoded value: {error}") from None


def _decode(tree: Any, opaque: Callable[[str, int], Any], depth: int) -> Any:
    if depth > MAX_DEPTH + 1:
        raise CodecError("nested too deeply")
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if type(tree) is not dict or len(tree) != 1:
        raise CodecError("an untagged container")
    ((tag, body),) = tree.items()
    if tag == "l":
        return [_decode(item, opaque, depth + 1) for item in body]
    if tag == "t":
        return tuple(_decode(item, opaque, depth + 1) for item in body)
    if tag == "d":
        keys = hashable([_decode(k, opaque, depth + 1) for k, _ in body])
        return dict(zip(keys, [_decode(v, opaque, depth + 1) for _, v in body]))
    if tag == "s" or tag == "z":
        items = hashable([_decode(item, opaque, depth + 1) for item in body])
        return set(items) if tag == "s" else frozenset(items)
    if tag == "i":
        return int(body, 16)
    if tag == "f" and body in ("nan", "inf", "-inf"):
        return float(body)
    if tag == "b":
        return bytes.fromhex(body)
    if tag == "c":
        return complex(float(body[0]), float(body[1]))
    if tag == "n":
        if len(body[1]) > 10_000:
            raise CodecError("a number that is too long")
        return _NUMBER_TYPES[body[0]](body[1])
    if tag == "r":
        return opaque(str(body[0])[:200], int(body[1]))
    raise CodecError(f"unknown tag {tag!r}")


def hashable(items: list[Any]) -> list[Any]:
    """The items, if not many different ones have one hash: a set of such would take quadratic time.

    Raises:
        CodecError: they do.
    """
    if len(items) > 1000:
        alike: dict[int, list[Any]] = {}
        for item in items:
            known = alike.setdefault(hash(item), [])
            if all(item is not other and item != other for other in known):
                known.append(item)
                if len(known) > _ALIKE:
                    raise CodecError("too many equal hashes")
    return items


def _fraction(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(int(numerator), int(denominator or "1"))


_NUMBER_TYPES: dict[str, Callable[[str], Any]] = {"Decimal": Decimal, "Fraction": _fraction}


def dumps(value: Any, keep: Callable[[Any], int] | None = None) -> bytes:
    """`value` as one line of bytes."""
    return json.dumps(encode(value, keep), separators=(",", ":")).encode() + b"\n"


def loads(line: bytes | str, opaque: Callable[[str, int], Any] = Opaque) -> Any:
    """The value of one line made by `dumps`.

    Raises:
        CodecError: the bytes are no such line.
    """
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from None
    return decode(tree, opaque)
