"""Units: which words are units, what a unit measures, and how many of the base unit it is.

A unit may be a symbol with a prefix (`kPa`), a word (`dollars`), a power (`cm^2`, `square feet`), or a product or quotient of such
(`m/s^2`, `miles per hour`, `Nm`). Symbols are case-sensitive (`mW`, `MW`), words are not.
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

    offset: Fraction = Fraction(0)
    """The base unit's value at zero, for scales of temperature."""


_PREFIXES = {
    "p": ("pico", "1e-12"), "n": ("nano", "1e-9"), "μ": ("micro", "1e-6"), "u": ("", "1e-6"), "m": ("milli", "1e-3"), "c": ("centi", "1e-2"),
    "d": ("deci", "1e-1"), "h": ("hecto", "1e2"), "k": ("kilo", "1e3"), "M": ("mega", "1e6"), "G": ("giga", "1e9"), "T": ("tera", "1e12"),
}  # fmt: skip

_PREFIXED = """
m   m 1                pnμumcdhkMG meter meters metre metres
g   kg 0.001           nμumcdkM   gram grams gramme grammes
s   s 1                pnμumkM    second seconds sec secs
A   A 1                pnμumk     ampere amperes amp amps
K   K 1                μumk       kelvin kelvins
mol mol 1              nμumk      mole moles mols
N   kg*m/s^2 1         μumkMG     newton newtons
J   kg*m^2/s^2 1       pnμumkMGT  joule joules
W   kg*m^2/s^3 1       pnμumkMGT  watt watts
Pa  kg/m*s^2 1         μumhkMG    pascal pascals
Hz  1/s 1              mkMGT      hertz
V   kg*m^2/s^3*A 1     nμumkM     volt volts
Ω   kg*m^2/s^3*A^2 1   μumkMG     ohm ohms Ohm Ohms Omega
C   A*s 1              pnμumk     coulomb coulombs
F   A^2*s^4/kg*m^2 1   pnμum      farad farads
T   kg/s^2*A 1         pnμum      tesla teslas
H   kg*m^2/s^2*A^2 1   pnμum      henry henries
Wb  kg*m^2/s^2*A 1     μum        weber webers
S   A^2*s^3/kg*m^2 1   nμumk      siemens
eV  kg*m^2/s^2 1.602176634e-19 μumkMGT electronvolt electronvolts
cal kg*m^2/s^2 4.184   k          calorie calories
L   m^3 0.001          nμumcdhk   liter liters litre litres
l   m^3 0.001          μumcdh
M   mol/m^3 1000       pnμum      molar
bar kg/m*s^2 100000    mk         bars
Wh  kg*m^2/s^2 3600    mkMGT      watthour watthours
cd  cd 1               m          candela
lm  cd 1               -          lumen lumens
lx  cd/m^2 1           -          lux
Bq  1/s 1              kMGT       becquerel becquerels
Gy  m^2/s^2 1          mμ         gray grays
Sv  m^2/s^2 1          mμ         sievert sieverts
"""
"""Symbol; what it measures and its size; the prefixes that it takes; names, which take the names of these prefixes."""

_NAMES = """
in     m 0.0254         in inch inches
ft     m 0.3048         ft foot feet
yd     m 0.9144         yd yds yard yards
mi     m 1609.344       mi mile miles
μm     m 1e-6           micron microns
Å      m 1e-10          Å angstrom angstroms
ly     m 9460730472580800   ly lightyear lightyears
km     m 1000           kms
cm     m 0.01           cms
mm     m 0.001          mms
g      kg 0.001         gm gms
kg     kg 1             kgs
t      kg 1000          t tonne tonnes
ton    kg 907.18474     ton tons
lb     kg 0.45359237    lb lbs pound pounds
oz     kg 0.028349523125  oz ounce ounces
u      kg 1.66053906892e-27 amu Da
min    s 60             min mins minute minutes
h      s 3600           h hr hrs hour hours
day    s 86400          d day days
week   s 604800         week weeks wk wks
month  month 1          month months
year   month 12         year years yr yrs
decade month 120        decade decades
mph    m/s 0.44704      mph
kph    m/s 5/18         kph kmh kmph
kn     m/s 1852/3600    kn knot knots
acre   m^2 4046.8564224 acre acres
ha     m^2 10000        ha hectare hectares
cc     m^3 1e-6         cc
mL     m^3 1e-6         ml
gal    m^3 0.003785411784   gallon gallons gal
qt     m^3 0.000946352946   quart quarts
pt     m^3 0.000473176473   pint pints
cup    m^3 0.0002365882365  cup cups
$      $ 1              $ dollar dollars USD usd bucks
¢      $ 0.01           ¢ cent cents
€      € 1              € euro euros EUR
£      £ 1              £ GBP
¥      ¥ 1              ¥ yen yuan RMB CNY JPY
₹      ₹ 1              ₹ rupee rupees Rs rs INR
R$     R$ 1             reais
°      ° 1              ° degree degrees deg
rad    - 1              rad radian radians
rpm    1/s 1/60         rpm
ppm    - 1e-6           ppm
ppb    - 1e-9           ppb
atm    kg/m*s^2 101325  atm atmosphere atmospheres
torr   kg/m*s^2 101325/760  torr Torr mmHg
psi    kg/m*s^2 6894.757293168 psi
dyn    kg*m/s^2 1e-5    dyn dyne dynes
lbf    kg*m/s^2 4.4482216152605 lbf
erg    kg*m^2/s^2 1e-7  erg ergs
BTU    kg*m^2/s^2 1055.05585262 BTU Btu
hp     kg*m^2/s^3 745.69987158227022 hp horsepower
G      kg/s^2*A 1e-4    G gauss
bit    bit 1            bit bits
byte   bit 8            byte bytes
m      m 1              米 公尺
km     m 1000           千米 公里
cm     m 0.01           厘米 公分
mm     m 0.001          毫米
m^2    m^2 1            平方米
cm^2   m^2 1e-4         平方厘米
m^3    m^3 1            立方米
cm^3   m^3 1e-6         立方厘米
kg     kg 1             千克 公斤
g      kg 0.001         克
t      kg 1000          吨
s      s 1              秒
min    s 60             分钟
h      s 3600           小时
day    s 86400          天 日
L      m^3 0.001        升
mL     m^3 1e-6         毫升
¥      ¥ 1              元
°      ° 1              度
"""
"""Symbol; what it measures and its size; spellings."""


def _dimension(text: str) -> Dimension:
    found: dict[str, int] = {}
    top, _, bottom = text.partition("/")
    for part, sign in ((top, 1), (bottom, -1)):
        for factor in part.split("*") if part else ():
            name, _, exponent = factor.partition("^")
            if name not in ("1", "-"):
                found[name] = found.get(name, 0) + sign * int(exponent or 1)
    return tuple(sorted(found.items()))


_UNITS: dict[str, Unit] = {
    "°C": Unit((("K", 1),), Fraction(1), Fraction("273.15")),
    "°F": Unit((("K", 1),), Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
}
UNITS: dict[str, str] = {
    **dict.fromkeys(("°C", "Celsius", "celsius"), "°C"),
    **dict.fromkeys(("°F", "Fahrenheit", "fahrenheit"), "°F"),
}
"""Spelling to the unit's symbol; names in lower case."""


def _add(symbol: str, unit: Unit, spellings: list[str]) -> None:
    _UNITS[symbol] = unit
    for spelling in spellings:
        UNITS.setdefault(spelling, symbol)


for _line in _NAMES.strip().splitlines():
    _symbol, _measure, _size, *_spellings = _line.split()
    _add(_symbol, Unit(_dimension(_measure), Fraction(_size)), _spellings)
for _line in _PREFIXED.strip().splitlines():
    _symbol, _measure, _size, _prefixes, *_names = _line.split()
    _base = Unit(_dimension(_measure), Fraction(_size))
    _add(_symbol, _base, [_symbol, *_names])
    for _letter in _prefixes.strip("-"):
        _word, _factor = _PREFIXES[_letter]
        _scaled = Unit(_base.dimension, _base.scale * Fraction(_factor))
        _add(
            _letter + _symbol,
            _scaled,
            [_letter + _symbol, *(_word + name.casefold() for name in _names if _word and len(name) > 3)],
        )

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
"""Units of two letters and more that may stand directly behind a number, as in `5km`; other letters there are variables (`2mH`)."""

LETTERS = frozenset("msghLlAVKJWCFNTHΩ")
"""Units of one letter that may be meant where a letter stands behind a number and a space: `5 A`."""

CURRENCIES = frozenset("$¢€£¥₹")
_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_BEHIND = {"squared": 2, "cubed": 3}
GLUE = frozenset((*_BEFORE, *_BEHIND, "per"))
"""Words that stand among units."""
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


@lru_cache(maxsize=2048)
def unit(text: str) -> Unit | None:
    """Return the unit that is written as `text`; None where a part of it is no known unit."""
    found: list[list[int | str]] = []
    sign, raised, position = 1, 1, 0
    text = plain_unit(text)
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
            if lowered in ("per", "an", "a") and (found or lowered == "per"):
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
        return _UNITS[str(found[0][0])]
    dimension: dict[str, int] = {}
    scale = Fraction(1)
    for name, exponent in found:
        part, power = _UNITS[str(name)], int(exponent)
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
"""Words behind a value that say nothing of what is measured."""

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
"""Words behind a value that change it: `5 or more` is not 5."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words behind a value: its unit, and what else is said."""

    unit: Unit | None
    others: frozenset[str]
    """Words that are no units, without their plural endings."""

    changing: frozenset[str]
    """Those of the words that change the value."""


@lru_cache(maxsize=2048)
def words_behind(text: str) -> Words:
    """Sort the words behind a value into its unit, words that change the value, and the rest."""
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
    """Return the symbols of the units that a word is made of: one, or two as in `Nm`; None where it is no unit."""
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
