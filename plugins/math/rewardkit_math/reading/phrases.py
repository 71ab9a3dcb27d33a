"""Answers that are words: choices, times of day, phrases of words and formulas, and references that are no answers at all."""

from __future__ import annotations

import json
import re

from rewardkit_math.errors import MathError
from rewardkit_math.expr import Expr, neg
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.units import unit, words_behind

# ---- choices

_CHOICE = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf)\{\s*)?(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+)?"
    r"(?:\(([A-J])\)|([A-J])[.):](?=\s))(?:[\s.:~]|\\[ ,;]|\})+(?=\S)(.{1,200})",
    re.DOTALL,
)
_LETTER = re.compile(r"(?:(?:\\(?:text|mathrm)\s*\{\s*)?option\s*\}?\s*\(?([A-J])\)?\}?|([A-J])\))[.:]?", re.IGNORECASE)
_CHOICE_NOISE = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox)\b|\\[ ,;]|\\quad|\b(?:and|or)\b|[和或与及、，；\s{}()\[\],;.&*]+"
)
_NO_CHOICE = re.compile(r"[\d=+^/<>|I-Z_-]")
_CHOICE_LETTERS = re.compile(r"[A-H]{2,8}")


def choice(content: str) -> Expr | None:
    r"""Return the letter of a choice, perhaps with its text (`(B) 12`, `\textbf{(C)}\ 12`, `Option B`), or several letters."""
    if not content[:1].isalpha() and content[:1] not in ("(", "\\", "["):
        return None
    letter = _LETTER.fullmatch(content) if len(content) < 30 else None
    if letter is not None:
        return Expr("sym", (letter[1] or letter[2]).upper())
    several = choices(content)
    if several is not None:
        return several
    match = _CHOICE.fullmatch(content)
    if match is None or match[3].startswith(
        ("}", "^", "_", "/", "=", "+", "-", "*", ",", "\\cdot", "\\times", "\\cup", "\\cap")
    ):
        return None
    try:
        return Expr("choice", match[1] or match[2], parse(match[3]))
    except MathError:
        return Expr("choice", match[1] or match[2], Expr("text", match[3]))


def choices(content: str) -> Expr | None:
    """Return several letters of choices, however they are joined: `A, C`, `AC`, `(A)(C)`, `A and C`."""
    if len(content) > 80 or _NO_CHOICE.search(content):
        return None
    letters = _CHOICE_NOISE.sub("", content)
    if not _CHOICE_LETTERS.fullmatch(letters) or len(set(letters)) != len(letters):
        return None
    if "," in content and content[0] in "([" and list(letters) != sorted(letters):  # the pair (B, A)
        return None
    return Expr("choices", "".join(sorted(letters)), letters)


# ---- words

_NO_NAMES = {
    "to",
    *words.CONNECTORS,
    *words.CONDITIONS,
    *words.FUNCTIONS,
    *words.GREEK,
    *words.CONSTANTS,
    *words.NUMBER_WORDS,
}
"""Words that are mathematics, or that make a list or a condition."""

_REALS, _EMPTY = Expr("const", "R"), Expr("const", "empty")
PHRASES = {
    **dict.fromkeys(
        ("allrealnumbers", "allreals", "realnumbers", "anyrealnumber", "allrealnumber", "allrealvalues"), _REALS
    ),
    **dict.fromkeys(("dne", "doesnotexist", "thelimitdoesnotexist"), Expr("text", "does not exist")),
    **dict.fromkeys(
        (
            "nosolution",
            "nosolutions",
            "norealsolution",
            "norealsolutions",
            "emptyset",
            "theemptyset",
            "无解",
            "無解",
            "空集",
        ),
        _EMPTY,
    ),
}
"""Words that denote a set, without their spaces."""

_SEVERAL_WORDS = re.compile(r"(?:an?|on|in|at|[A-Za-z]{3,})(?: [A-Za-z'’-]+)+", re.IGNORECASE)


def name(content: str) -> Expr | None:
    """Return several words in a row that are no list and no mathematics: `an ellipse`, `two heads`."""
    if len(content) > 60 or _SEVERAL_WORDS.fullmatch(content) is None:
        return None
    found = content.split()
    if any(w.casefold() in _NO_NAMES or w in _NO_NAMES for w in found) or not any(len(w) > 3 for w in found):
        return None
    return Expr("text", content)


_CHINESE_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,20}")


def chinese_number(content: str) -> int | None:
    """Return the value of a Chinese numeral, or None."""
    if not _CHINESE.fullmatch(content):
        return None
    total = section = digit = 0
    for char in content:
        if char in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[char]
        elif char in _CHINESE_UNITS:
            section += (digit or 1) * _CHINESE_UNITS[char]
            digit = 0
        else:
            total = (total + section + digit) * (10**4 if char == "万" else 10**8)
            section = digit = 0
    return total + section + digit


# ---- phrases of words and formulas

_PIECES = re.compile(
    r"\$\$?(?P<math>[^$]+)\$\$?|\\\((?P<paren>.+?)\\\)|\\\[(?P<brack>.+?)\\\]"
    r"|\\(?:text|textbf|textit|textrm|mbox|mathrm|emph)\s*\{(?P<text>[^{}]*)\}"
    r"|(?<![\\A-Za-z{^_])(?P<word>[A-Za-z][A-Za-z'’-]*[A-Za-z]|[aI](?= ))(?![A-Za-z_^(])"
    r"|(?P<rest>\\[A-Za-z]+|\S|\s+)",
    re.DOTALL,
)
_DROPPED = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "of",
        "there",
        "that",
        "it",
        "and",
        "then",
        "so",
        ",",
        ".",
        ":",
        ";",
        "its",
        "has",
        "have",
        "be",
        "being",
    ]
)
"""Words of a phrase that are ignored in comparisons."""
_MATH_WORDS = words.FUNCTIONS.keys() | words.GREEK | words.CONSTANTS.keys()
_BOUNDS_BEHIND = {
    ("or", "more"): ">=",
    ("or", "greater"): ">=",
    ("or", "less"): "<=",
    ("or", "fewer"): "<=",
    ("or", "above"): ">=",
    ("or", "below"): "<=",
}
_SENTENCE_WORDS = 6
"""A text without formulas of at least this many words is a sentence, not a name."""

_COPULAS = frozenset(("is", "are", "equals", "was", "be"))
_SIGNS = frozenset((("negative",), ("minus",)))


def phrase(content: str) -> Expr | None:
    r"""Return a phrase of words and formulas, such as `slope $3$ through $(0,1)$`; None if a formula in it can't be read.

    `at least 5` becomes a relation, `negative 3` a number, and a phrase without words that count is the formula alone.
    """
    if len(content) > 400:
        return None
    parts: list[Expr | str] = []
    formula = ""

    def close() -> bool:
        nonlocal formula
        piece, formula = formula.strip().strip(",;:.").strip(), ""
        if piece:
            try:
                parts.append(parse(piece))
            except MathError:
                return False
        return True

    for match in _PIECES.finditer(content):
        inner = match["math"] or match["paren"] or match["brack"]
        spoken = match["text"] if match["text"] is not None else match["word"]
        if inner is not None:
            if not close():
                return None
            formula = inner
            if not close():
                return None
        elif spoken is not None and (match["text"] is not None or spoken.casefold() not in _MATH_WORDS):
            if not close():
                return None
            found = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+(?:['’-][^\W\d_]+)*", spoken)
            parts.extend(parse(word) if word[0].isdigit() else word for word in found)
        else:
            formula += match[0]
    return _assembled(parts) if close() else None


def _assembled(parts: list[Expr | str]) -> Expr | None:
    """Return the expression that words and formulas in a row make."""
    spoken = tuple(p.casefold() for p in parts if isinstance(p, str))
    formulas = [p for p in parts if isinstance(p, Expr)]
    if len(formulas) == 1 and spoken:
        if isinstance(parts[0], str) and not isinstance(parts[-1], str):
            if spoken in _SIGNS:
                return neg(formulas[0])
            if spoken in words.BOUNDS:
                return Expr("rel", (words.BOUNDS[spoken],), Expr("sym", "?"), formulas[0])
        if not isinstance(parts[0], str) and spoken in _BOUNDS_BEHIND:
            return Expr("rel", (_BOUNDS_BEHIND[spoken],), Expr("sym", "?"), formulas[0])
        if not isinstance(parts[-1], str) and spoken[-1] in _COPULAS and not words_behind(" ".join(spoken)).changing:
            return formulas[0]  # the number is 4
    kept = [
        p if isinstance(p, Expr) else Expr("text", p.casefold())
        for p in parts
        if isinstance(p, Expr) or p.casefold() not in _DROPPED
    ]
    if not kept:
        return None
    if len(kept) == 1:
        return kept[0]
    if all(p.head == "text" for p in kept) and len(kept) < _SENTENCE_WORDS:
        return Expr("text", " ".join(p.args[0] for p in kept))
    if kept[0].head != "text" and all(p.head == "text" for p in kept[1:]):
        behind = " ".join(p.args[0] for p in kept[1:])
        if not words_behind(behind).changing:
            return Expr("unit", kept[0], behind)
    return Expr("phrase", *kept)


def word_count(expr: Expr) -> int:
    """Return how many words of a phrase are no units and no words of arithmetic."""
    return sum(p.head == "text" and p.args[0] not in _ARITHMETIC and unit(p.args[0]) is None for p in expr.args)


_ARITHMETIC = frozenset(
    [
        "remainder",
        "r",
        "mod",
        "modulo",
        "to",
        "between",
        "and",
        "or",
        "times",
        "by",
        "pairs",
        "pair",
        "increase",
        "decrease",
        "profit",
        "loss",
        "north",
        "south",
        "east",
        "west",
    ]
)


# ---- references that are no answers

_NO_VALUE = frozenset(("nan", "null", "<na>", "n/a", "undefined value", "nat", "[]", "{}", '""', "''"))
_NUMBERED = re.compile(r"\d{1,3}[.)]\s+[A-Z][a-z']+\s[a-z]")
_SENTENCE = re.compile(r"[A-Z][a-z']+(?:\s+\S+){7,}[.!]\s*\Z")


def no_answer(text: str) -> str | None:
    """Return why a text can't be a reference, or None: a missing value, JSON, a question."""
    stripped = text.strip()
    if stripped.casefold() in _NO_VALUE:
        return f"{stripped!r} stands for a missing value"
    if stripped[:1] in "{[" and len(stripped) < 100_000:
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return "it is a JSON object; name the field that holds the answer, as in reference: answer.value"
        if isinstance(value, list) and any(isinstance(item, (dict, str)) for item in value):
            return "it is a JSON list in a text; give the list itself, or one answer"
    if stripped.endswith(("?", "？")) and len(stripped) > 20 and "boxed" not in stripped:
        return "it is a question"
    return None
