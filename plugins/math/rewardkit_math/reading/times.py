"""Times of day, durations and dates."""

from __future__ import annotations

import re

from rewardkit_math.expr import Expr
from rewardkit_math.parsing import text as texts

# ---- times of day

_CLOCK = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?(?:([ap])\.?m\.?|noon|midnight)|noon|midnight")
_DURATION = re.compile(
    r"(?:(\d+)h(?:ours?|rs?)?)(?:and)?(\d+)m(?:in(?:ute)?s?)?(?:(?:and)?(\d+)s(?:ec(?:ond)?s?)?)?|(\d+)m(?:in(?:ute)?s?)?(?:and)?(\d+)s(?:ec(?:ond)?s?)?"
)


def clock(content: str) -> Expr | None:
    r"""Return a time of day with its half (`4:30 \text{ p.m.}`, `7 AM`), or a duration (`1h30m`)."""
    if len(content) > 60 or not ("m" in content or "M" in content or "noon" in content):
        return None
    plain = texts.plain(content)
    match = _CLOCK.fullmatch(plain)
    if match is not None and int(match[1] or 12) <= 12 and int(match[2] or 0) <= 59:
        half = match[3] or ("p" if "noon" in match[0] else "a")
        return Expr("clock", int(match[1] or 12) % 12 * 60 + int(match[2] or 0), half + "m")
    match = _DURATION.fullmatch(plain)
    if match is None or len(plain) > 30:
        return None
    hours, minutes, seconds = int(match[1] or 0), int(match[2] or match[4] or 0), int(match[3] or match[5] or 0)
    return Expr("unit", Expr("num", hours * 3600 + minutes * 60 + seconds, None), "s")


# ---- dates

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH = "(?P<month>" + "|".join(f"{m[:3]}(?:{m[3:]})?" if len(m) > 3 else m for m in _MONTHS) + r")\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{{4}}))?",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+{_MONTH}(?:,?\s+(?P<year>\d{{4}}))?",
    )
)
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def date(content: str) -> Expr | None:
    """Return a calendar date: `March 5, 2021`, `5 March 2021`, `2021-03-05`."""
    if not 5 <= len(content) <= 40 or not content[0].isalnum() or "\\" in content or "=" in content:
        return None
    match = _ISO_DATE.fullmatch(content)
    if match is not None and 1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31:
        return Expr("date", int(match[1]), int(match[2]), int(match[3]))
    for pattern in _DATES:
        match = pattern.fullmatch(content)
        if match is not None:
            month = next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(match["month"][:3].casefold()))
            return Expr("date", int(match["year"] or 0), month, int(match["day"]))
    return None
