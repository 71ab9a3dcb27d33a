"""The words of mathematical answers: functions, constants, units, connectors, LaTeX commands. Tables only."""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

FUNCTIONS = {
    name: name
    for name in (
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch "
        "arcsinh arccosh arctanh log ln lg exp max min gcd lcm det tr arg Re Im sgn floor ceil abs sqrt cbrt deg dim ker rank"
    ).split()
} | {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "cotg": "cot", "cosec": "csc",
    "arctg": "arctan", "sh": "sinh", "ch": "cosh", "th": "tanh", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "ceiling": "ceil", "sign": "sgn",
    "lb": "log2", "Tr": "tr", "trace": "tr", "GCD": "gcd", "LCM": "lcm", "sup": "max", "inf": "min", "hcf": "gcd",
    "binom": "binom", "factorial": "fact", "root": "sqrt", "mod": "mod",
}  # fmt: skip
"""Names of functions, in LaTeX (with a backslash) or in plain text, to the name used in `fn` nodes."""

CONSTANTS = {"pi": "pi", "infty": "inf", "infinity": "inf", "Infinity": "inf", "oo": "inf", "emptyset": "empty",
             "varnothing": "empty", "imath": "i", "jmath": "j", "exponentialE": "e"}  # fmt: skip

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi omicron rho varrho sigma "
    "varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar aleph "
    "nabla partial wp".split()
)

NUMBER_SETS = frozenset("RQZNC")

RELATIONS = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=",
    "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "not=": "!=", "approx": "~", "thickapprox": "~", "simeq": "~",
    "doteq": "~", "approxeq": "~", "cong": "~", "equiv": "==", "in": "in", "isin": "in", "notin": "notin", "ni": "ni",
    "subset": "subset", "subseteq": "subset", "supset": "supset", "supseteq": "supset", "sim": "similar",
    "to": "to", "rightarrow": "to", "longrightarrow": "to", "mapsto": "to", "propto": "propto", "coloneqq": "=",
    "Rightarrow": "=>", "implies": "=>", "iff": "=>", "Leftrightarrow": "=>", "Longrightarrow": "=>",
    "parallel": "parallel", "perp": "perp", "triangleq": "=",
}  # fmt: skip
"""LaTeX relation commands to the operator used in `rel` nodes; `~` is "approximately"."""

OPERATORS = {
    "cdot": "*", "times": "*", "ast": "*", "star": "*", "bullet": "*", "div": "/", "pm": "+-", "mp": "-+", "bmod": "mod",
    "cup": "union", "bigcup": "union", "cap": "inter", "bigcap": "inter", "setminus": "minus", "smallsetminus": "minus",
    "backslash": "minus", "land": ",", "lor": ",", "wedge": ",", "vee": ",", "mid": "|", "colon": ":", "prime": "'",
    "circ": "circ", "degree": "deg", "bmod ": "mod", "percent": "%", "ldots": "dots", "dots": "dots", "cdots": "dots",
    "dotsc": "dots", "dotsb": "dots", "vdots": "dots", "ddots": "dots", "pmod": "pmod", "pod": "pmod", "mod": "mod",
    "union": "union", "times ": "*",
}  # fmt: skip

SPACING = frozenset(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm quad qquad displaystyle textstyle "
    "scriptstyle scriptscriptstyle limits nolimits strut mathstrut thinspace enspace medspace thickspace negthinspace "
    "nonumber notag hfill break newline centering bf rm it sf tt large Large huge small".split()
)
"""Commands that leave no mark on the meaning."""

TEXT_COMMANDS = frozenset(
    "text textbf textit textrm textnormal textsf texttt textup mbox hbox emph textsc textmd".split()
)
FONT_COMMANDS = frozenset(
    "mathrm mathbf mathit mathsf mathtt mathnormal boldsymbol bm operatorname mathop pmb symbf".split()
)
ACCENTS = frozenset("vec hat bar tilde overrightarrow overleftarrow widehat widetilde dot ddot overline underline mathcal "
                    "mathscr mathfrak overleftrightarrow overarc wideparen".split())  # fmt: skip
TRANSPARENT = frozenset(
    "boxed fbox framebox ensuremath mathstrut beginboxed bbox underbrace overbrace mathchoice".split()
)
SKIP_WITH_ARGUMENT = frozenset(
    "hspace vspace phantom hphantom vphantom label tag color kern mspace hskip vskip".split()
)

_UNIT_SCALES: dict[str, tuple[str, float | int]] = {
    # length in metres
    "m": ("m", 1), "km": ("m", 1000), "cm": ("m", 0.01), "mm": ("m", 0.001), "nm": ("m", 1e-9), "in": ("m", 0.0254),
    "ft": ("m", 0.3048), "yd": ("m", 0.9144), "mi": ("m", 1609.344),
    # mass in kilograms
    "g": ("kg", 0.001), "kg": ("kg", 1), "mg": ("kg", 1e-6), "lb": ("kg", 0.45359237), "oz": ("kg", 0.028349523125),
    # time in seconds
    "s": ("s", 1), "ms": ("s", 0.001), "min": ("s", 60), "h": ("s", 3600), "day": ("s", 86400), "week": ("s", 604800),
    "month": ("month", 1), "year": ("month", 12),
    # volume in litres
    "L": ("L", 1), "mL": ("L", 0.001),
    # money in dollars
    "$": ("$", 1), "¢": ("$", 0.01), "€": ("€", 1), "£": ("£", 1), "¥": ("¥", 1), "₹": ("₹", 1),
    # angles, energy and the like
    "°": ("°", 1), "rad": ("rad", 1), "J": ("J", 1), "kJ": ("J", 1000), "N": ("N", 1), "W": ("W", 1), "kW": ("W", 1000),
    "Hz": ("Hz", 1), "V": ("V", 1), "A": ("A", 1), "K": ("K", 1), "Pa": ("Pa", 1), "mol": ("mol", 1),
}  # fmt: skip

UNIT_NAMES = {
    "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres kms",
    "cm": "cm centimeter centimeters centimetre centimetres cms", "mm": "mm millimeter millimeters millimetre millimetres",
    "nm": "nm nanometer nanometers", "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yds yard yards",
    "mi": "mi mile miles", "g": "g gram grams gm", "kg": "kg kilogram kilograms kgs", "mg": "mg milligram milligrams",
    "lb": "lb lbs pound pounds", "oz": "oz ounce ounces", "s": "s sec secs second seconds", "ms": "ms millisecond milliseconds",
    "min": "min mins minute minutes", "h": "h hr hrs hour hours", "day": "day days", "week": "week weeks wk wks",
    "month": "month months", "year": "year years yr yrs", "L": "L liter liters litre litres",
    "mL": "mL ml milliliter milliliters millilitre", "$": "$ dollar dollars USD usd bucks", "¢": "¢ cent cents",
    "€": "€ euro euros EUR", "£": "£ GBP", "¥": "¥ yen yuan RMB", "₹": "₹ rupee rupees Rs rs INR", "°": "° degree degrees deg",
    "rad": "rad radian radians", "J": "J joule joules", "kJ": "kJ", "N": "N newton newtons", "W": "W watt watts", "kW": "kW",
    "Hz": "Hz hertz", "V": "V volt volts", "K": "K kelvin", "Pa": "Pa pascal", "mol": "mol moles mole",
}  # fmt: skip
UNITS = {name: unit for unit, names in UNIT_NAMES.items() for name in names.split()}
"""Spelling to the unit's symbol."""


def unit_scale(unit: str) -> tuple[str, float | int] | None:
    """What a unit measures, and how many of the base unit it is; None for a unit outside the table."""
    return _UNIT_SCALES.get(unit)


CONNECTORS = {"and": ",", "or": ",", "и": ",", "und": ",", "oder": ",", "et": ",", "ou": ","}

CONDITIONS = frozenset("for where if when with such provided assuming unless".split())

TEXT_ANSWERS = frozenset(
    "yes no true false none neither both even odd never always undefined infinite dne impossible some all not both "
    "convergent divergent converges diverges increasing decreasing".split()
)

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty".split()
    )
}

OPENING = {"(": "(", "[": "[", "\\{": "{", "\\lbrace": "{", "\\lfloor": "⌊", "\\lceil": "⌈", "\\langle": "⟨", "\\lvert": "|",
           "\\lVert": "‖", "\\lbrack": "[", "\\lparen": "("}  # fmt: skip
CLOSING = {")": ")", "]": "]", "\\}": "}", "\\rbrace": "}", "\\rfloor": "⌋", "\\rceil": "⌉", "\\rangle": "⟩", "\\rvert": "|",
           "\\rVert": "‖", "\\rbrack": "]", "\\rparen": ")"}  # fmt: skip
