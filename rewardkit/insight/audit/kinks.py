"""The lengths at which a reward changes, read from its own parameters and conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SHORTEST, LONGEST = 2, 100_000
_LENGTH_NAME = re.compile(r"len|tok|char|word|buffer|free|margin|limit|max|min|short|long|size", re.IGNORECASE)
_CONDITION = re.compile(r"\b(num_tokens|length|len\w*)\b\D{0,12}?(\d+)")


def lengths_of(resolved: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    """Return the lengths at which a reward changes, with their unit (``tokens`` or ``characters``).

    Args:
        resolved: The resolved reward file.

    Returns:
        Every whole number that a parameter named like a length holds, the ends of the zones that they form (a maximum less its buffer,
        the ends of a band and its margins), and the numbers of tokens in conditions.
    """
    return tuple(dict.fromkeys(pair for pair in _walk(resolved) if SHORTEST <= pair[0] <= LONGEST))


def _walk(value: Any) -> Iterator[tuple[int, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "with" and isinstance(item, Mapping):
                yield from _of_parameters(item)
            elif name in {"when", "gate"} and isinstance(item, str):
                yield from ((int(number), "tokens") for _, number in _CONDITION.findall(item))
            else:
                yield from _walk(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item)


def _of_parameters(parameters: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    numbers = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, int) and not isinstance(value, bool) and _LENGTH_NAME.search(name)
    }
    counts_tokens = any("token" in name and value is not None for name, value in parameters.items())
    unit = "tokens" if counts_tokens else "characters"
    for value in numbers.values():
        yield value, unit
    for edge, value in numbers.items():
        for zone in ("buffer", "margin"):
            if edge != zone and (width := numbers.get(zone)):
                yield value - width, unit
                yield value + width, unit
    for item in parameters.values():
        if isinstance(item, Mapping):
            yield from _of_parameters(item)
