"""Normal forms of text: Unicode as plain LaTeX, and forms in which two texts are compared."""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

import re
import unicodedata

_MAP: dict[int, str] = {
    ord(char): to
    for chars, to in (
        ("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f", ""),
        ("\u00a0\u2002\u2003\u2004\u2005\u2007\u2008\u3000", " "),
        ("\u2009\u200a\u202f\u2006", r"\,"),
        ("×✕✖⨯", r"\times "),
        ("·⋅∙•・", r"\cdot "),
        ("÷", r"\div "),
        ("−–‐‑‒﹣－", "-"),
        ("—", " - "),
        ("±", r"\pm "),
        ("∓", r"\mp "),
        ("≤≦⩽", r"\le "),
        ("≥≧⩾", r"\ge "),
        ("≠", r"\ne "),
        ("≈≅≃", r"\approx "),
        ("≡", r"\equiv "),
        ("∞", r"\infty "),
        ("π", r"\pi "),
        ("√", r"\sqrt "),
        ("∛", r"\cbrt "),
        ("°º˚", r"^\circ "),
        ("∈", r"\in "),
        ("∉", r"\notin "),
        ("∪", r"\cup "),
        ("∩", r"\cap "),
        ("∖", r"\setminus "),
        ("∅", r"\emptyset "),
        ("→", r"\to "),
        ("⇒", r"\Rightarrow "),
        ("ℝ", r"\mathbb{R}"),
        ("ℤ", r"\mathbb{Z}"),
        ("ℕ", r"\mathbb{N}"),
        ("ℚ", r"\mathbb{Q}"),
        ("ℂ", r"\mathbb{C}"),
        ("′’‘ʹ", "'"),
        ("″“”", '"'),
        ("⌊", r"\lfloor "),
        ("⌋", r"\rfloor "),
        ("⌈", r"\lceil "),
        ("⌉", r"\rceil "),
        ("⟨〈", r"\langle "),
        ("⟩〉", r"\rangle "),
        ("∑", r"\sum "),
        ("∏", r"\prod "),
        ("∫", r"\int "),
        ("∧", r"\land "),
        ("∨", r"\lor "),
        ("∠", r"\angle "),
        ("△", r"\triangle "),
        ("，、", ","),
        ("；", ";"),
        ("。", ". "),
        ("（", "("),
        ("）", ")"),
        ("｛", "{"),
        ("｝", "}"),
        ("∶：", ":"),
        ("⁄∕", "/"),
        ("％", "%"),
    )
    for char in chars
}
_GREEK = "αβγδεζηθικλμνξορστυφχψωΓΔΘΛΞΣΦΨΩ"
_NAMES = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron rho sigma tau upsilon phi chi psi "
          "omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega").split()  # fmt: skip
_MAP |= {ord(char): f"\\{name} " for char, name in zip(_GREEK, _NAMES, strict=True)}

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+")
_ROOT = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)√")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")


def to_latex(text: str) -> str:
    """Return `text` with Unicode mathematics written as LaTeX: full-width digits, superscripts, π, ≤, ½, invisible spaces."""
    if text.isascii():
        return text
    text = _ROOT.sub(lambda m: "\\sqrt[" + m[1].translate(_SUPERSCRIPTS) + "]", text)
    text = _SUPERSCRIPT_RUN.sub(lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda m: "_{" + m[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", m[0]).split("⁄")), text)
    return unicodedata.normalize("NFKC", text.translate(_MAP)).translate(_MAP)


_DOUBLED = re.compile(
    r"\\\\(?=(?:d?frac|tfrac|sqrt|left|right|pi|text|le|ge|leq|geq|cdot|times|infty|cup|boxed|pm|sin|cos|tan|ln|log)(?![a-z]))"
)
_BREAKABLE = re.compile(r"\\\\(?=[A-Za-z%${}])")


def single_backslashes(text: str) -> str:
    r"""Return `text` with `\\frac` and the like, which were escaped once too often, as `\frac`; the ends of rows stay."""
    if "\\\\" not in text:
        return text
    text = _DOUBLED.sub(r"\\", text)
    return text if "\\begin" in text else _BREAKABLE.sub(r"\\", text)


_WRAPPER = re.compile(
    r"\\(?:ce|text(?:bf|it|rm|normal|sf|tt|up)?|mbox|hbox|mathrm|mathbf|mathit|mathsf|operatorname|boldsymbol|bm|emph)\s*\{([^{}]*)\}"
)
_NOISE = re.compile(r"\\[,;:! ]|\\q?quad\b|\\(?:left|right|displaystyle)\b|[\s~$*\"'`]+|(?<!\\)[{}]|\\[{}](?=$)")


def plain(text: str) -> str:
    """Return `text` without wrappers, spacing and braces, in lower case: equal results are the same words."""
    for _ in range(4):
        stripped = _WRAPPER.sub(r"\1", text)
        if stripped == text:
            break
        text = stripped
    return _NOISE.sub("", text).strip(".,;:!?").casefold()


_ONE = re.compile(r"([\^_])\{(\w)\}")
_EMPTY = re.compile(r"\{\s*\}")


def spelled_out(text: str) -> str:
    r"""Return `text` without wrappers, spaces, and braces around one character: `1s^{2}\,2s^{2}` and `1s^22s^2` are the same."""
    for _ in range(4):
        stripped = _WRAPPER.sub(r"\1", text)
        if stripped == text:
            break
        text = stripped
    return _ONE.sub(r"\1\2", _EMPTY.sub("", typographic(text)))


_ELEMENTS = (
    "H|He|Li|Be|B|C|N|O|F|Ne|Na|Mg|Al|Si|P|S|Cl|Ar|K|Ca|Sc|Ti|V|Cr|Mn|Fe|Co|Ni|Cu|Zn|Ga|Ge|As|Se|Br|Kr|Rb|Sr|Y|Zr|Nb|Mo|Tc|Ru|Rh|Pd|Ag|Cd|"
    "In|Sn|Sb|Te|I|Xe|Cs|Ba|La|Ce|Nd|W|Os|Ir|Pt|Au|Hg|Tl|Pb|Bi|Rn|Fr|Ra|Th|U|Pu"
)
_CHEMICAL = re.compile(rf"\d*(?:(?:{_ELEMENTS})\d*|[(\[]|[)\]]\d*)+(?:\^?(?:\d?[+-]|[+-]\d?))?(?:\((?:s|l|g|aq)\))?")
_ARROW = re.compile(r"\\(?:long)?rightarrow(?![A-Za-z])|\\to(?![A-Za-z])|\\xrightarrow\s*\{[^{}]*\}|[-=]+>|→")
_PLUS = re.compile(r"\s\+\s|(?<=[A-Za-z\d)\]}])\+(?=\s*\\?\d*\s*[A-Z(\[\\])")
_INDEX = re.compile(r"_(?:\{(\d+)\}|(?=(\d))\d)")
_CHARGE = re.compile(r"\^\{(\d?[+-])\}")


def chemical(text: str) -> str | None:
    r"""Return a chemical formula or equation in plain letters; equal results mean the same.

    Args:
        text: For example `\mathrm{H_2O}` or `\ce{2H2 + O2 -> 2H2O}`.

    Returns:
        For example `H2O` or `2H2+O2->2H2O`, with the substances of a side in alphabetical order; None for anything else.
    """
    if len(text) > 120:
        return None
    arrow = _ARROW.search(text)
    if arrow is None:
        return _formula(text)
    unwrapped = text
    for _ in range(4):
        unwrapped = _WRAPPER.sub(r"\1", unwrapped)
    sides = _ARROW.split(unwrapped)
    if len(sides) != 2:
        return None
    written = []
    for side in sides:
        terms = [_formula(term) or term.strip() for term in _PLUS.split(side)]
        if not all(_CHEMICAL.fullmatch(term) for term in terms):
            return None
        written.append("+".join(sorted(terms)))
    return "->".join(written)


def _formula(text: str) -> str | None:
    """Return the formula of one substance in plain letters, or None."""
    plain_text = spelled_out(_CHARGE.sub(r"^\1", _INDEX.sub(r"\1\2", text))).replace("_", "")
    if (
        not _CHEMICAL.fullmatch(plain_text)
        or sum(c.isupper() for c in plain_text) + sum(c.isdigit() or c in "^+-" for c in plain_text) < 2
    ):
        return None
    return plain_text.replace("^", "")


_SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|\\(?:left|right|displaystyle)(?![a-zA-Z])|[\s~$]+")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")


def typographic(text: str) -> str:
    r"""Return `text` without spaces and without choices of typography (`\dfrac`, `\left`): equal results mean the same."""
    return _FRACTIONS.sub(r"\\frac", _SPACING.sub("", text)) if "\\" in text else "".join(text.split())
