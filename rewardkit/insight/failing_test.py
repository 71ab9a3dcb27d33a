"""The test of a row at which a program failed, as the reason of a code reward numbers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_NUMBERED = re.compile(r"(?:^|; )test (\d{1,6}): ")
_ONLY = re.compile(r"^the tests? failed: ")
MOST_CHARACTERS = 4_000


def failing_test(reason: str, row: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the number of the failed test, counted from 1, and the test; None if the reason or the row does not tell.

    Args:
        reason: What a component says, such as ``1 of 3 tests passed; test 2: expected '7', got '0'``.
        row: The scored row. Its tests are in a column whose name holds ``test``: a list, also as JSON, of tests, or an object of
            lists (``inputs`` and ``outputs``).
    """
    found = _NUMBERED.search(reason)
    if found is None and _ONLY.match(reason) is None:
        return None
    number = int(found[1]) if found else 1
    for name, value in row.items():
        if "test" in name.lower() and (test := _test(value, number)):
            return number, test[:MOST_CHARACTERS]
    return None


def _test(value: Any, number: int) -> str | None:
    """Return a test of a column as text."""
    if isinstance(value, str):
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value if number == 1 and value.strip() else None
        return _test(parsed, number) if isinstance(parsed, (list, dict)) else None
    if isinstance(value, Mapping):
        lists = {name: items for name, items in value.items() if isinstance(items, list) and len(items) >= number}
        return _shown({name: items[number - 1] for name, items in lists.items()}) if lists else None
    if isinstance(value, list) and 1 <= number <= len(value):
        return _shown(value[number - 1])
    return None


def _shown(test: Any) -> str:
    if isinstance(test, str):
        return test
    return orjson.dumps(test, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
