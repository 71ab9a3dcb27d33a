"""From a text to the expression of its answer: what is extracted is parsed, and what is a sentence is searched for what it says."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rewardkit_math.errors import MathError, ParseError, TooLarge, Undefined
from rewardkit_math.expr import Expr
from rewardkit_math.extraction import SOURCES, Answer, candidates, is_prose, without_delimiters
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import text as texts
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.literals import number
from rewardkit_math.work import READING, allowed


class Read(NamedTuple):
    """One side, read: the answer found, and its expression where it has one."""

    answer: Answer
    expr: Expr | None
    problem: str = ""


@lru_cache(maxsize=2048)
def read_reference(text: str) -> Read:
    """Return the reading of a reference, which a group of completions shares."""
    return read(text, SOURCES)


def read(text: str, sources: tuple[str, ...]) -> Read:
    """Return the first answer in the text that is understood, else the first one found."""
    with allowed(READING):
        return _first_understood(text, sources)


def _first_understood(text: str, sources: tuple[str, ...]) -> Read:
    first: Read | None = None
    for index, answer in enumerate(candidates(text, sources)):
        if answer.source == "text" and first is not None:
            break
        if answer.source in ("math", "number") and first is not None and first.answer.source == "bare":
            break  # the last number of a formula that can't be read is not its value
        try:
            read = understood(answer)
        except TooLarge as error:
            read = Read(answer, None, str(error))
        if read.expr is not None or answer.source in ("tag", "boxed", "hash"):
            return read
        first = first or read
        if index >= 8:
            break
    return first or Read(Answer("", ""), None, "no answer found")


_TRAILING = re.compile(r"(?:[\s.,;:]|!(?:\s*!){2,}|\\[,;:! ]|\\\\|\\$)+$")
_DIGIT = re.compile(r"\d")


def _trimmed(content: str) -> str:
    """`content` without punctuation and spacing at its end."""
    return _TRAILING.sub("", content) if content[-1:] in " .,;:!\\\n\t\r" else content


def understood(answer: Answer) -> Read:
    """Parse an answer; where it is a sentence, what the sentence says."""
    content = answer.text
    rational = _rational(content)
    if rational is not None:
        return Read(answer, rational)
    stripped = without_delimiters(_trimmed(texts.single_backslashes(content))).strip()
    if stripped.startswith("``") and stripped.endswith("''"):
        stripped = stripped[2:-2].strip()
    if stripped.startswith("\\text{") and stripped.find("}") == len(stripped) - 1:
        stripped = stripped[6:-1].strip()
    said = PHRASES.get(texts.plain(stripped)) if len(stripped) < 40 and not _DIGIT.search(stripped) else None
    count = words.NUMBER_WORDS.get(stripped.casefold())
    if count is not None:
        return Read(answer, Expr("num", count, None))
    said = said or _clock(stripped) or _choice(stripped)
    said = said or _words(stripped)
    if said is not None:
        return Read(answer, said)
    if not is_prose(stripped):
        try:
            return Read(answer, parse(stripped))
        except (ParseError, TooLarge, Undefined) as error:
            if answer.source not in ("boxed", "tag", "bare", "hash") or not any(c.isalpha() for c in stripped):
                return Read(answer, None, str(error))
            problem = str(error)
    else:
        problem = "a sentence"
    if problem == "a sentence" and len(stripped) < 400 and answer.source in ("boxed", "tag", "bare", "hash"):
        for inner in candidates(stripped, ("phrase", "math", "number")):
            try:
                return Read(answer, parse(inner.text), "")
            except MathError:
                continue
    return Read(answer, None, problem)


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
        ("nosolution", "nosolutions", "norealsolution", "norealsolutions", "emptyset", "theemptyset"), _EMPTY
    ),
}
"""Words that mean a set, without their spaces."""
_CHOICE = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf)\{\s*)?(?:\(([A-J])\)|([A-J])[.)](?=\s))(?:[\s.:~]|\\[ ,;]|\})+(?=\S)(.{1,200})",
    re.DOTALL,
)
_LETTER = re.compile(r"(?:option\s*\(?([A-J])\)?|([A-J])\))[.:]?", re.IGNORECASE)


def _choice(content: str) -> Expr | None:
    r"""The letter of a choice, perhaps with what it stands for: `(B) 12`, `\textbf{(C)}\ 12`, `B)`, `Option B`."""
    if not content[:1].isalpha() and content[:1] not in ("(", "\\"):
        return None
    letter = _LETTER.fullmatch(content) if len(content) < 16 else None
    if letter is not None:
        return Expr("sym", (letter[1] or letter[2]).upper())
    match = _CHOICE.fullmatch(content)
    if match is None or match[3].startswith(
        ("}", "^", "_", "/", "=", "+", "-", "*", ",", "\\cdot", "\\times", "\\cup", "\\cap")
    ):
        return None
    try:
        return Expr("choice", match[1] or match[2], parse(match[3]))
    except MathError:
        return Expr("choice", match[1] or match[2], Expr("text", match[3]))


_CLOCK = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?(?:([ap])\.?m\.?|noon|midnight)|noon|midnight")


def _clock(content: str) -> Expr | None:
    r"""A time of day with its half: `4:30 \text{ p.m.}`, `7 AM`."""
    if len(content) > 60 or not ("m" in content or "M" in content or "noon" in content):
        return None
    match = _CLOCK.fullmatch(texts.plain(content))
    if match is None or int(match[1] or 12) > 12 or int(match[2] or 0) > 59:
        return None
    half = match[3] or ("p" if "noon" in match[0] else "a")
    return Expr("clock", int(match[1] or 12) % 12 * 60 + int(match[2] or 0), half + "m")


_SEVERAL_WORDS = re.compile(r"(?:an?|[A-Za-z]{3,})(?: [A-Za-z'’-]+)+", re.IGNORECASE)


def _words(content: str) -> Expr | None:
    """Several words in a row that are no list and no mathematics: `an ellipse`, `two heads`."""
    if len(content) > 60 or _SEVERAL_WORDS.fullmatch(content) is None:
        return None
    found = content.split()
    if any(w.casefold() in _NO_NAMES or w in _NO_NAMES for w in found) or not any(len(w) > 3 for w in found):
        return None
    return Expr("text", content)


_RATIONAL = re.compile(
    r"(-?)(?:(\d{1,400})|(\d{1,400}\.\d{0,400}(?:[eE][+-]?\d{1,3})?|\d{1,20}[eE][+-]?\d{1,3})"
    r"|\\[dt]?frac\{(-?\d{1,400})\}\{(\d{1,400})\}|(\d{1,400})/(\d{1,400}))"
)


def _rational(content: str) -> Expr | None:
    """A plain numeral or fraction, read without the parser; None for anything else."""
    match = _RATIONAL.fullmatch(content)
    if match is None:
        return None
    sign, whole, decimal, top, bottom, left, right = match.groups()
    places: int | None = None
    value: int | Fraction
    if whole is not None:
        value = int(whole)
    elif decimal is not None:
        value, places = number(decimal)
    else:
        numerator, denominator = int(top or left), int(bottom or right)
        if not denominator:
            return None
        quotient, rest = divmod(numerator, denominator)
        value = Fraction(numerator, denominator) if rest else quotient
    return Expr("num", -value if sign else value, places)
