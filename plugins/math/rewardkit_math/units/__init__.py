"""Units of measurement: their spellings, dimensions and sizes.

A unit may be a symbol with a prefix (`kPa`), a word (`dollars`), a power (`cm^2`, `square feet`), or a product or quotient of such
(`m/s^2`, `miles per hour`, `Nm`). Symbols are case-sensitive (`mW`, `MW`), words are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewardkit_math.units.table import BY_SYMBOL, UNITS, Dimension, Unit

__all__ = [
    "ATTACHED",
    "CURRENCIES",
    "GLUE",
    "LETTERS",
    "UNITS",
    "Dimension",
    "Unit",
    "Words",
    "plain_unit",
    "symbols_in",
    "unit",
    "words_behind",
]

ATTACHED = frozenset(
    [
        "km",
        "cm",
        "mm",
        "nm",
        "kg",
        "ml",
        "mL",
        "min",
        "mins",
        "hr",
        "hrs",
        "sec",
        "secs",
        "ft",
        "yd",
        "lb",
        "lbs",
        "oz",
        "mph",
        "kph",
        "kmh",
        "rpm",
        "ppm",
        "psi",
        "kWh",
        "kPa",
        "MPa",
        "Pa",
        "kJ",
        "kcal",
        "kW",
        "MW",
        "kHz",
        "MHz",
        "GHz",
        "Hz",
        "keV",
        "MeV",
        "eV",
        "mol",
        "atm",
        "cal",
        "deg",
        "rad",
        "km",
        "kms",
        "cms",
    ]
)
"""Units of two letters and more that may stand directly after a number, as in `5km`; other letters there are variables (`2mH`)."""

LETTERS = frozenset("msghLlAVKJWCFNTHΩ")
"""Units of one letter that a letter after a number and a space may mean: `5 A`."""

CURRENCIES = frozenset("$¢€£¥₹")
_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_BEHIND = {"squared": 2, "cubed": 3}
GLUE = frozenset((*_BEFORE, *_BEHIND, "per"))
"""Words that occur among units."""
_PIECE = re.compile(
    r"(?P<word>°[CF]|[A-Za-zμ°ΩÅ\u4e00-\u9fff]+|[$¢€£¥₹])\.?|\^?\{?(?P<power>[-−]?\d)\}?|(?P<over>/)|(?P<gap>[\s*·⋅~\\,;:!.()]+)"
)
_COMMANDS = re.compile(
    r"\\(?:cdot|times|,|;|:|!| |quad)|\\(?:mathrm|text|rm|mathit|operatorname)\b|\\(mu|Omega|circ|degree)\b|(?<!\^)\{([^{}]*)\}"
)
_SYMBOLS = {"mu": "μ", "Omega": "Ω", "circ": "°", "degree": "°"}


def plain_unit(text: str) -> str:
    r"""Return a unit written in LaTeX as plain text: `N\cdot m^{-1}` as `N m^{-1}`, `\mu F` as `μF`."""
    if "\\" not in text and "{" not in text:
        return text
    for _ in range(3):
        text = _COMMANDS.sub(lambda m: _SYMBOLS[m[1]] if m[1] else m[2] if m[2] is not None else " ", text)
    return re.sub(r"μ\s+(?=[A-Za-zΩ])", "μ", text).replace("^°", "°")


_SPEED = re.compile(r"\bkm\s*h\s*\^?\s*\{?[-−]1\}?")
"""Kilometres per hour written as a product: `kmh^{-1}`."""


@lru_cache(maxsize=2048)
def unit(text: str) -> Unit | None:
    """Return the unit that is written as `text`; None if a part of it is no known unit."""
    found: list[list[int | str]] = []
    sign, raised, position = 1, 1, 0
    text = _SPEED.sub(r"km/h", plain_unit(text))
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            return None
        position = match.end()
        if match["over"]:
            sign = -1
        elif match["power"]:
            if not found:
                return None
            found[-1][1] = int(found[-1][1]) * int(match["power"].replace("−", "-"))
        elif match["word"]:
            word = match["word"]
            lowered = word.casefold()
            if lowered == "per" or (word in ("an", "a") and found):  # not the A of amperes
                sign = -1
            elif lowered in _BEFORE:
                raised = _BEFORE[lowered]
            elif lowered in _BEHIND and found:
                found[-1][1] = int(found[-1][1]) * _BEHIND[lowered]
            else:
                symbols = symbols_in(word)
                if symbols is None:
                    return None
                found.extend([symbol, sign * (raised if symbol == symbols[-1] else 1)] for symbol in symbols)
                raised = 1
    return _combined(found)


def _combined(found: list[list[int | str]]) -> Unit | None:
    """Return the product of powers of units."""
    if not found:
        return None
    if len(found) == 1 and found[0][1] == 1:
        return BY_SYMBOL[str(found[0][0])]
    dimension: dict[str, int] = {}
    scale = Fraction(1)
    for name, exponent in found:
        part, power = BY_SYMBOL[str(name)], int(exponent)
        scale *= part.scale**power
        for quantity, count in part.dimension:
            dimension[quantity] = dimension.get(quantity, 0) + count * power
    return Unit(tuple(sorted((q, n) for q, n in dimension.items() if n)), scale)


_NEUTRAL = frozenset(
    [
        "unit",
        "units",
        "of",
        "the",
        "a",
        "an",
        "in",
        "total",
        "each",
        "all",
        "and",
        "is",
        "are",
        "altogether",
        "approximately",
        "about",
    ]
)
"""Words after a value that carry no information about it."""

_CHANGING = frozenset(
    [
        "more",
        "less",
        "fewer",
        "greater",
        "least",
        "most",
        "than",
        "or",
        "not",
        "negative",
        "minus",
        "plus",
        "below",
        "under",
        "over",
        "above",
        "remainder",
        "r",
        "mod",
        "modulo",
        "pair",
        "pairs",
        "dozen",
        "dozens",
        "half",
        "squared",
        "cubed",
        "hundred",
        "thousand",
        "million",
        "billion",
        "trillion",
        "except",
        "without",
        "tenths",
        "hundredths",
        "thousandths",
    ]
)
"""Words after a value that change it: `5 or more` is not 5."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words after a value: its unit and other words."""

    unit: Unit | None
    others: frozenset[str]
    """Words that are no units, without their plural endings."""

    changing: frozenset[str]
    """The words that change the value."""


@lru_cache(maxsize=2048)
def words_behind(text: str) -> Words:
    """Sort the words after a value into its unit, words that change the value, and the rest."""
    measured = unit(text)
    if measured is not None:
        return Words(measured, frozenset(), frozenset())
    known: list[str] = []
    others: set[str] = set()
    for word in re.findall(r"[^\W\d_]+(?:\^\{?-?\d\}?)?|[/$¢€£¥₹°]+", plain_unit(text)):
        lowered = word.casefold()
        if lowered in _CHANGING or lowered in _NEUTRAL:
            others.add(lowered)
        elif word == "/" or lowered in GLUE or unit(word) is not None:
            known.append(word)
        else:
            others.add(lowered.removesuffix("s") if len(lowered) > 3 else lowered)
    changing = frozenset(others & _CHANGING)
    if others & {"unit", "units"}:
        known = [word for word in known if word.casefold() not in GLUE]
    return Words(unit(" ".join(known)) if known else None, frozenset(others - _NEUTRAL), changing)


def symbols_in(word: str) -> list[str] | None:
    """Return the symbols of the units that a word is made of: one, or two as in `Nm`; None if it isn't a unit."""
    symbol = symbol_of(word)
    if symbol is not None:
        return [symbol]
    if 2 <= len(word) <= 4 and word[0] in "NJVAWC":
        for cut in range(1, len(word)):
            first, second = UNITS.get(word[:cut]), UNITS.get(word[cut:])
            if first is not None and second is not None:
                return [first, second]
    return None


def symbol_of(word: str) -> str | None:
    """Return the symbol of one unit by its symbol (case counts) or its name (case does not)."""
    symbol = UNITS.get(word)
    if symbol is None and len(word) > 3:
        symbol = UNITS.get(word.casefold())
    return symbol
