"""Wrong answers that keep a part of the right one: dates, JSON, decimals, units, and hedges in the form of a right completion.

They find rewards that compare only the part that is easy to compare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.insight.cheats.making import is_reference, put_for_reference, with_answers, wrong_answer

KIND = "wrong answer"
_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_TIME = re.compile(r"(\d{1,2}):(\d{2})")
_MEASURE = re.compile(r"(-?\d+(?:[.,]\d+)*)(\s*)([A-Za-z°]+)")
_OTHER_UNITS = {
    "km": "m", "m": "km", "cm": "mm", "mm": "cm", "mi": "ft", "ft": "mi", "in": "ft",
    "kg": "g", "g": "kg", "mg": "g", "lb": "oz", "t": "kg", "l": "ml", "ml": "l", "L": "mL", "mL": "L",
    "J": "kJ", "kJ": "J", "W": "kW", "kW": "W", "V": "mV", "A": "mA",
    "s": "min", "min": "s", "h": "min", "hours": "minutes", "minutes": "hours", "days": "weeks", "weeks": "days",
    "dollars": "cents", "cents": "dollars", "USD": "EUR", "EUR": "USD",
}  # fmt: skip
"""For each unit one of another size or value."""


def _two_digits(number: str) -> str:
    """Return another day or month, written with as many digits."""
    changed = int(number) % 12 + 1
    return f"{changed:0{len(number)}d}"


def _date_changed(reference: str) -> Iterator[str]:
    if (match := _DATE.fullmatch(reference.strip())) is not None:
        year, mark, month, day = match.groups()
        for changed in (
            (year, _two_digits(month), _two_digits(day)),
            (year, month, _two_digits(day)),
            (year, _two_digits(month), day),
            (str(int(year) + 1), month, day),
        ):
            yield mark.join(changed)
    elif (match := _TIME.fullmatch(reference.strip())) is not None:
        hour, minute = match.groups()
        yield f"{hour}:{(int(minute) + 7) % 60:02d}"
        yield f"{int(hour) % 12 + 1:0{len(hour)}d}:{minute}"


def _json_changed(row: CheatInput) -> Iterator[str]:
    """Change one value of a JSON object, or give a nested object a member too many or too few."""
    for reference in (*row.references, *row.long_references):
        try:
            value = json.loads(reference)
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            continue
        for changed in _variants(value):
            yield json.dumps(changed)
            if row.right and (whole := put_for_reference(row.right, reference, json.dumps(changed))) is not None:
                yield whole


def _variants(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, member in value.items():
        if isinstance(member, dict):
            yield {**value, name: {**member, "extra_argument": 7919}}
            yield {**value, name: {}}
            for changed in _variants(member):
                yield {**value, name: changed}
        elif isinstance(member, bool):
            yield {**value, name: not member}
        elif isinstance(member, int | float):
            yield {**value, name: member + 1}
        elif isinstance(member, str):
            yield {**value, name: f"{member}7"}


def _dot_replaced(reference: str) -> Iterator[str]:
    if re.fullmatch(r"-?\d+\.\d+", reference):
        yield from (reference.replace(".", mark) for mark in ("0", "x", "7"))


def _other_unit(reference: str) -> Iterator[str]:
    if (match := _MEASURE.fullmatch(reference.strip())) is not None and match[3] in _OTHER_UNITS:
        yield f"{match[1]}{match[2]}{_OTHER_UNITS[match[3]]}"


def _hedge_in_own_form(row: CheatInput) -> Iterator[str]:
    """Put the right answer and another one where a right completion of the row has its answer, in either order."""
    for reference in row.references:
        wrong = wrong_answer(reference, row)
        if row.right is None or is_reference(wrong, row):
            continue
        pairs = (f"{reference} or {wrong}", f"{wrong} or {reference}")
        made = [put_for_reference(row.right, reference, pair) for pair in pairs]
        if all(text is not None for text in made):
            yield from (text for text in made if text is not None)


CHEATS = (
    Cheat("date-changed", "a date or time of which one part is wrong", with_answers(_date_changed), kind=KIND),
    Cheat("json-changed", "JSON of which one value or argument is wrong", _json_changed, kind=KIND),
    Cheat("dot-replaced", "the right number with another character for its point", with_answers(_dot_replaced), kind=KIND),
    Cheat("other-unit", "the right number with a unit of another size", with_answers(_other_unit), kind=KIND),
    Cheat(
        "hedge-in-own-form",
        "the right answer or another one, in the form of a right completion, in either order",
        _hedge_in_own_form,
        all_needed=True,
        kind=KIND,
    ),
)  # fmt: skip
"""The cheats of this module."""
