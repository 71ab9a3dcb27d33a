"""The table of units: SI units with their prefixes, other units, and their dimensions."""

# ruff: noqa: E501 - tables are read across

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Dimension = tuple[tuple[str, int], ...]
"""Base quantities with their exponents: m/s is (("m", 1), ("s", -1))."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its dimension and its size."""

    dimension: Dimension

    scale: Fraction
    """Its size in base units."""

    offset: Fraction = Fraction(0)
    """The value in base units at zero, for temperature scales."""


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


BY_SYMBOL: dict[str, Unit] = {
    "°C": Unit((("K", 1),), Fraction(1), Fraction("273.15")),
    "°F": Unit((("K", 1),), Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
}
UNITS: dict[str, str] = {
    **dict.fromkeys(("°C", "Celsius", "celsius"), "°C"),
    **dict.fromkeys(("°F", "Fahrenheit", "fahrenheit"), "°F"),
}
"""Spelling to the unit's symbol; names in lower case."""


def _add(symbol: str, unit: Unit, spellings: list[str]) -> None:
    BY_SYMBOL[symbol] = unit
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
