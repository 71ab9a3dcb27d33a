"""Units: which words are units, what a unit measures, and how many of its base unit it is.

A unit may be a word (`cm`, `dollars`), a power (`cm^2`, `square feet`), or a product or quotient of such (`m/s^2`, `miles per hour`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Dimension = tuple[tuple[str, int], ...]
"""Base quantities with their exponents: m/s is (("m", 1), ("s", -1))."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit measures, and its size."""

    dimension: Dimension

    scale: Fraction
    """How many of the base unit it is."""


_NAMES = """
m      m 1              m meter meters metre metres
km     m 1000           km kms kilometer kilometers kilometre kilometres
cm     m 0.01           cm cms centimeter centimeters centimetre centimetres
dm     m 0.1            dm decimeter decimeters decimetre decimetres
mm     m 0.001          mm millimeter millimeters millimetre millimetres
μm     m 1e-6           μm micrometer micrometers micron microns
nm     m 1e-9           nm nanometer nanometers
in     m 0.0254         in inch inches
ft     m 0.3048         ft foot feet
yd     m 0.9144         yd yds yard yards
mi     m 1609.344       mi mile miles
g      kg 0.001         g gm gram grams
kg     kg 1             kg kgs kilogram kilograms
mg     kg 1e-6          mg milligram milligrams
t      kg 1000          tonne tonnes
ton    kg 907.18474     ton tons
lb     kg 0.45359237    lb lbs pound pounds
oz     kg 0.028349523125  oz ounce ounces
s      s 1              s sec secs second seconds
ms     s 0.001          ms millisecond milliseconds
min    s 60             min mins minute minutes
h      s 3600           h hr hrs hour hours
day    s 86400          day days
week   s 604800         week weeks wk wks
month  month 1          month months
year   month 12         year years yr yrs
decade month 120        decade decades
mph    m/s 0.44704      mph
kph    m/s 5/18         kph kmh
acre   m^2 4046.8564224 acre acres
ha     m^2 10000        hectare hectares
L      m^3 0.001        L liter liters litre litres
mL     m^3 1e-6         mL ml milliliter milliliters millilitre millilitres
gal    m^3 0.003785411784   gallon gallons gal
qt     m^3 0.000946352946   quart quarts
pt     m^3 0.000473176473   pint pints
cup    m^3 0.0002365882365  cup cups
$      $ 1              $ dollar dollars USD usd bucks
¢      $ 0.01           ¢ cent cents
€      € 1              € euro euros EUR
£      £ 1              £ GBP
¥      ¥ 1              ¥ yen yuan RMB
₹      ₹ 1              ₹ rupee rupees Rs rs INR
°      ° 1              ° degree degrees deg
°C     °C 1             °C Celsius celsius
°F     °F 1             °F Fahrenheit fahrenheit
rad    rad 1            rad radian radians
N      kg*m/s^2 1       N newton newtons
J      kg*m^2/s^2 1     J joule joules
kJ     kg*m^2/s^2 1000  kJ kilojoule kilojoules
W      kg*m^2/s^3 1     W watt watts
kW     kg*m^2/s^3 1000  kW kilowatt kilowatts
Pa     kg/m*s^2 1       Pa pascal pascals
Hz     1/s 1            Hz hertz
A      A 1              ampere amperes amp amps
V      V 1              V volt volts
Ω      Ω 1              Ω Omega ohm ohms
K      K 1              K kelvin kelvins
mol    mol 1            mol moles mole
"""
"""Symbol; what it measures and its size; spellings."""


def _dimension(text: str) -> Dimension:
    found: dict[str, int] = {}
    top, _, bottom = text.partition("/")
    for part, sign in ((top, 1), (bottom, -1)):
        for factor in part.split("*") if part else ():
            name, _, exponent = factor.partition("^")
            if name != "1":
                found[name] = found.get(name, 0) + sign * int(exponent or 1)
    return tuple(sorted(found.items()))


_UNITS: dict[str, Unit] = {}
UNITS: dict[str, str] = {}
"""Spelling to the unit's symbol."""
for _line in _NAMES.strip().splitlines():
    _symbol, _measure, _size, *_spellings = _line.split()
    _UNITS[_symbol] = Unit(_dimension(_measure), Fraction(_size))
    UNITS |= dict.fromkeys(_spellings, _symbol)

CURRENCIES = frozenset("$¢€£¥₹")
_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_BEHIND = {"squared": 2, "cubed": 3}
GLUE = frozenset((*_BEFORE, *_BEHIND, "per"))
"""Words that stand among units."""
_PIECE = re.compile(r"(?P<word>[A-Za-zμ°Ω$¢€£¥₹]+)\.?|\^?\{?(?P<power>-?\d)\}?|(?P<over>/)|[\s*·~\\,;:!.]+")


@lru_cache(maxsize=1024)
def unit(text: str) -> Unit | None:
    """The unit that is written as `text`; None where a part of it is no unit that is known."""
    found: list[list[int | str]] = []
    sign, raised, position = 1, 1, 0
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
            found[-1][1] = int(found[-1][1]) * int(match["power"])
        elif match["word"]:
            word = match["word"]
            lowered = word.casefold()
            if lowered in ("per", "an", "a") and (found or lowered == "per"):
                sign = -1
            elif lowered in _BEFORE:
                raised = _BEFORE[lowered]
            elif lowered in _BEHIND and found:
                found[-1][1] = int(found[-1][1]) * _BEHIND[lowered]
            else:
                symbol = UNITS.get(word) or UNITS.get(lowered)
                if symbol is None:
                    return None
                found.append([symbol, sign * raised])
                raised = 1
    if not found:
        return None
    dimension: dict[str, int] = {}
    scale = Fraction(1)
    for name, exponent in found:
        part, power = _UNITS[str(name)], int(exponent)
        scale *= part.scale**power
        for quantity, count in part.dimension:
            dimension[quantity] = dimension.get(quantity, 0) + count * power
    return Unit(tuple(sorted((q, n) for q, n in dimension.items() if n)), scale)
