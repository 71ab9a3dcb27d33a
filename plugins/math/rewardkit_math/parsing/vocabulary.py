"""The words of mathematical answers: functions, constants, connectors, LaTeX commands. Tables only."""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

from fractions import Fraction

FUNCTIONS = {
    name: name
    for name in (
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch "
        "arcsinh arccosh arctanh log ln lg exp max min gcd lcm det tr arg Re Im sgn floor ceil abs sqrt cbrt deg dim ker rank cis"
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
    "backslash": "minus", "land": ",", "lor": "or", "wedge": ",", "vee": "or", "mid": "|", "colon": ":", "prime": "'",
    "circ": "circ", "degree": "deg", "bmod ": "mod", "percent": "%", "textdegree": "deg", "ldots": "dots", "dots": "dots", "cdots": "dots",
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
    "ce text textbf textit textrm textnormal textsf texttt textup mbox hbox emph textsc textmd".split()
)
FONT_COMMANDS = frozenset(
    "mathrm mathbf mathit mathsf mathtt mathnormal boldsymbol bm operatorname mathop pmb symbf".split()
)
ACCENTS = frozenset("vec hat bar tilde overrightarrow overleftarrow widehat widetilde dot ddot overline mathcal "
                    "mathscr mathfrak overleftrightarrow overarc wideparen".split())  # fmt: skip
TRANSPARENT = frozenset(
    "boxed fbox framebox underline ensuremath mathstrut beginboxed bbox underbrace overbrace mathchoice".split()
)
SKIP_WITH_ARGUMENT = frozenset(
    "textcolor hspace vspace phantom hphantom vphantom label tag color kern mspace hskip vskip".split()
)

CONNECTORS = {
    "and": ",",
    "or": "or",
    "и": ",",
    "или": "or",
    "und": ",",
    "oder": "or",
    "et": ",",
    "ou": "or",
    "或": "or",
    "或者": "or",
    "和": ",",
    "与": ",",
    "及": ",",
    "以及": ",",
    "且": ",",
}
"""Words between the items of a list; "or" tells inequalities that hold one or the other from those that hold together."""

CONDITIONS = frozenset("for where if when with such provided assuming unless".split())

BOUNDS = {
    ("at", "least"): ">=", ("no", "less", "than"): ">=", ("not", "less", "than"): ">=", ("at", "most"): "<=", ("no", "more", "than"): "<=",
    ("not", "more", "than"): "<=", ("up", "to"): "<=", ("more", "than"): ">", ("greater", "than"): ">", ("larger", "than"): ">",
    ("less", "than"): "<", ("fewer", "than"): "<", ("smaller", "than"): "<", ("greater", "than", "or", "equal", "to"): ">=",
    ("less", "than", "or", "equal", "to"): "<=", ("not",): "!=",
}  # fmt: skip
"""Words before a number that make it a bound, to the relation that they say."""

TEXT_ANSWERS = frozenset(
    "yes no true false none neither both even odd never always undefined infinite dne impossible some all not both "
    "convergent divergent converges diverges increasing decreasing".split()
)

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen".split()
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = (
    {word: value for value, word in enumerate(_ONES)}
    | {f"{ten}-{one}": 10 * t + o for t, ten in enumerate(_TENS, 2) for o, one in enumerate(_ONES[1:10], 1)}
    | {ten: 10 * t for t, ten in enumerate(_TENS, 2)}
    | {"hundred": 100, "one hundred": 100, "thousand": 1000}
)

FRACTION_WORDS = {
    **dict.fromkeys(("half", "one half", "a half"), Fraction(1, 2)),
    **dict.fromkeys(("one third", "a third"), Fraction(1, 3)),
    **dict.fromkeys(("one quarter", "a quarter", "one fourth", "a fourth"), Fraction(1, 4)),
    "two thirds": Fraction(2, 3),
    **dict.fromkeys(("three quarters", "three fourths"), Fraction(3, 4)),
}
"""Fractions in words."""

OPENING = {"(": "(", "[": "[", "\\{": "{", "\\lbrace": "{", "\\lfloor": "⌊", "\\lceil": "⌈", "\\langle": "⟨", "\\lvert": "|",
           "\\lVert": "‖", "\\lbrack": "[", "\\lparen": "("}  # fmt: skip
CLOSING = {")": ")", "]": "]", "\\}": "}", "\\rbrace": "}", "\\rfloor": "⌋", "\\rceil": "⌉", "\\rangle": "⟩", "\\rvert": "|",
           "\\rVert": "‖", "\\rbrack": "]", "\\rparen": ")"}  # fmt: skip
