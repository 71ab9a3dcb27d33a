"""Conversion of a text to the expression of its answer: extraction, then parsing; answers in words are read as phrases."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rewardkit_math.errors import MathError, ParseError, TooLarge, Undefined
from rewardkit_math.expr import Expr
from rewardkit_math.extraction import SOURCES, Answer, boxes, candidates, is_prose, sole_box, without_delimiters
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import text as texts
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.literals import number
from rewardkit_math.reading.phrases import PHRASES, chinese_number, choice, name, no_answer, phrase
from rewardkit_math.reading.times import clock, date
from rewardkit_math.units import unit, words_behind
from rewardkit_math.work import READING, allowed


class Read(NamedTuple):
    """The reading of one side: its answer, its expression if it could be parsed, and the problem if not."""

    answer: Answer
    expr: Expr | None
    problem: str = ""


@lru_cache(maxsize=2048)
def read_reference(text: str) -> Read:
    """Return the reading of a reference, which a group of completions shares.

    Nothing is guessed: a text without a mark for its answer is read as a whole, as an answer or as a phrase of words and formulas.
    """
    problem = no_answer(text)
    if problem is not None:
        return Read(Answer("", ""), None, problem)
    read_as = read(text, _STATED)
    if read_as.expr is not None or read_as.answer:
        return read_as
    whole = next(candidates(text, ("text",)), None)
    if whole is None:
        return Read(Answer("", ""), None, "a long text without a mark for its answer")
    with allowed(READING):
        if "$" not in whole.text and "\\(" not in whole.text:
            try:
                read_as = understood(whole)
            except TooLarge:
                return Read(whole, None, "a long text without a mark for its answer")
            if read_as.expr is not None:
                return read_as
        return _phrase(whole, "a sentence that can't be read as a whole")


_STATED = ("tag", "boxed", "hash", "bare", "phrase")


def read(text: str, sources: tuple[str, ...]) -> Read:
    """Return the first answer in the text that is understood, else the first one found."""
    if sources is SOURCES and "<" not in text and "&" not in text:
        content = sole_box(text)
        if content is not None and (number := _rational(content)) is not None:  # most completions
            return Read(Answer(content, "boxed"), number)
    with allowed(READING):
        return _first_understood(text, sources)


def read_phrase(text: str, sources: tuple[str, ...]) -> Read | None:
    """Return the reading of a prediction as a phrase of words and formulas, for a reference that is one; None if it is none."""
    with allowed(READING):
        for answer in candidates(
            text, tuple(s for s in sources if s in ("tag", "boxed", "hash", "bare", "phrase", "text"))
        ):
            try:
                expr = phrase(answer.text)
            except (TooLarge, RecursionError):
                return None
            return Read(answer, expr) if expr is not None else None
    return None


def read_boxes(text: str) -> list[Read]:
    """Return the readings of all boxes of a text, for a reference that is a list."""
    with allowed(READING):
        try:
            return [understood(Answer(content, "boxed")) for content in boxes(text)]
        except TooLarge:
            return []


def _phrase(answer: Answer, problem: str) -> Read:
    try:
        expr = phrase(answer.text)
    except (TooLarge, RecursionError) as error:
        return Read(answer, None, str(error))
    return Read(answer, expr, "" if expr is not None else problem)


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
_LABEL = re.compile(r"\((?:\d|[a-h]|i{1,3}|iv)\)\s+(?=[\d$\\-])")
_ANGLES = re.compile(r"<\s*([^<>=]+,[^<>=]+?)\s*>")
_BEHIND = re.compile(r"(.*[\d})])\s*\(\s*([A-Za-z²³^/ ]{1,30})\s*\)", re.DOTALL)


def _trimmed(content: str) -> str:
    """Return `content` without punctuation and spacing at its end."""
    return _TRAILING.sub("", content) if content[-1:] in " .,;:!\\\n\t\r" else content


def _prepared(content: str) -> str:
    """Return `content` without delimiters, labels such as `(3)`, and remarks after it such as `(units)`."""
    stripped = without_delimiters(_trimmed(texts.single_backslashes(content))).strip()
    if stripped.startswith("``") and stripped.endswith("''"):
        stripped = stripped[2:-2].strip()
    if stripped.startswith("\\text{") and stripped.find("}") == len(stripped) - 1:
        stripped = stripped[6:-1].strip()
    if stripped[:1] == "<" and (match := _ANGLES.fullmatch(stripped)) is not None:
        stripped = f"\\langle {match[1]} \\rangle"
    if _FIRST_LABEL.match(stripped):
        stripped = _without_labels(stripped)
    if stripped[:1] == "(":
        stripped = _LABEL.sub("", stripped, count=1)
    if stripped[-1:] == ")" and len(stripped) < 200:
        match = _BEHIND.fullmatch(stripped)
        if match is not None and match[2].strip().casefold() in words.NUMBER_WORDS:
            stripped = match[1].strip()
        elif match is not None and (unit(match[2]) is not None or not words_behind(match[2]).others):
            stripped = f"{match[1]} \\text{{ {match[2].strip()}}}" if unit(match[2]) is not None else match[1].strip()
    return stripped


_FIRST_LABEL = re.compile(r"(?:\\text\s*\{\s*)?(?:\(|[1ai]\))")
_LABELS = re.compile(
    r"(?:\\text\s*\{\s*)?(?<![\w)])\(?(?P<label>[a-h]|[1-9]|i{1,3}|iv|v)\)"
    r"(?:\s*\}|(?=[\s~]|\\[ ,;:]|\\q?quad))(?:[\s~]|\\[ ,;:]|\\q?quad)*"
)
_MAX_LABELLED = 1_000
"""The most characters of an answer in labelled parts."""
_LABEL_SERIES = ("abcdefgh", "123456789", ("i", "ii", "iii", "iv", "v"))
_BETWEEN_LABELS = re.compile(r"(?:[\s~,;.]|\\[ ,;:]|\\q?quad(?![A-Za-z])|\\\\|\band\b|\\text\s*\{\s*(?:and)?\s*\})+\Z")


def _without_labels(content: str) -> str:
    """Return `(a) 5 (b) 7` as the list `5, 7`; any other content unchanged."""
    if len(content) > _MAX_LABELLED:
        return content
    found = list(_LABELS.finditer(content))
    labels = [match["label"] for match in found]
    if len(found) < 2 or found[0].start() or not any(labels == list(series[: len(labels)]) for series in _LABEL_SERIES):
        return content
    ends = [match.start() for match in found[1:]] + [len(content)]
    items = [
        _BETWEEN_LABELS.sub("", content[match.end() : end]).strip() for match, end in zip(found, ends, strict=True)
    ]
    return ", ".join(items) if all(any(c.isalnum() for c in item) for item in items) else content


def understood(answer: Answer) -> Read:
    """Parse an answer; if it is a sentence, parse the answer that the sentence states."""
    content = answer.text
    rational = _rational(content)
    if rational is not None:
        return Read(answer, rational)
    stripped = _prepared(content)
    said = PHRASES.get(texts.plain(stripped)) if len(stripped) < 40 and not _DIGIT.search(stripped) else None
    count = _counted(stripped)
    if count is None and not stripped.isascii():
        count = chinese_number(stripped)
    if count is not None:
        return Read(answer, Expr("num", count, None))
    said = said or clock(stripped) or date(stripped) or choice(stripped) or name(stripped)
    if said is not None:
        return Read(answer, said)
    if not is_prose(stripped):
        try:
            return Read(answer, parse(stripped))
        except (ParseError, TooLarge, Undefined) as error:
            problem = str(error)
            if answer.source not in _MARKED or not any(c.isalpha() for c in stripped):
                return Read(answer, None, problem)
            if isinstance(error, TooLarge):
                return Read(answer, None, problem)
    else:
        problem = "a sentence"
    if len(stripped) < 400 and answer.source in _MARKED:
        return _sentence(answer, content, stripped, problem)
    return Read(answer, None, problem)


_MINUS = re.compile(r"(?:minus|negative)\s+", re.IGNORECASE)


def _counted(content: str) -> int | Fraction | None:
    """Return the value of a number in words, such as `twelve` or `minus five`; None for anything else."""
    minus = _MINUS.match(content)
    spoken = content[minus.end() if minus is not None else 0 :].casefold()
    count: int | Fraction | None = words.NUMBER_WORDS.get(spoken)
    if count is None:
        count = words.FRACTION_WORDS.get(spoken.replace("-", " "))
    return -count if minus is not None and count is not None else count


_MARKED = ("boxed", "tag", "bare", "hash")


def _sentence(answer: Answer, content: str, stripped: str, problem: str) -> Read:
    """Read a marked answer in words: the part after "the answer is", or a phrase of words and formulas."""
    if problem == "a sentence":
        for inner in candidates(stripped, ("phrase",)):
            try:
                return Read(answer, parse(inner.text), "")
            except MathError:
                continue
    try:
        expr = phrase(content)
    except (MathError, RecursionError):
        expr = None
    return Read(answer, expr, "" if expr is not None else problem)


_RATIONAL = re.compile(
    r"(-?)(?:(\d{1,400})|(\d{1,400}\.\d{0,400}(?:[eE][+-]?\d{1,3})?|\d{1,20}[eE][+-]?\d{1,3})"
    r"|\\[dt]?frac\{(-?\d{1,400})\}\{(\d{1,400})\}|(\d{1,400})/(\d{1,400}))"
)


@lru_cache(maxsize=2048)
def _rational(content: str) -> Expr | None:
    """Return a plain numeral or fraction, read without the parser; None for anything else."""
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
