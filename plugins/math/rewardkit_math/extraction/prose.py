"""Answers without a mark: a text that is only an answer, and the last formula or number of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.units import GLUE, UNITS, unit

MAX_ANSWER = 10_000
"""The most characters of an answer; longer ones are ignored."""

TAIL = 8_000
"""The number of characters at the end of a text in which unmarked answers are searched for."""

# ---- bare answers

_MATH = re.compile(
    r"\$\$(?P<dd>[^$]{1,2000}?)\$\$|\\\[(?P<br>(?:(?!\\\[).){1,2000}?)\\\]|\\\((?P<pa>(?:(?!\\\().){1,800}?)\\\)"
    r"|(?<!\\)\$(?P<d>(?:\\\$|[^$\n]){1,800}?)(?<!\\)\$",
    re.DOTALL,
)
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:the|is|are|it|its|of|that|this|we|so|therefore|thus|hence|answer|answers|because|which|was|were|has|have|can|"
    r"will|would|my|your|you|get|result|solution|solutions|value|equal|equals|final|i|let|then|there|he|she|they|by|be|not|number|"
    r"perimeter|area|step|first|since|using|choose|chose|pick|select|think|believe|choice|problem|question|makes|make)(?![A-Za-z])",
    re.IGNORECASE,
)
_COMMON = re.compile(
    r"\b(?:the|is|are|of|to|so|that|and) [a-z]{2,} [a-z]{2,}\b|\b[A-Z]?[a-z]+ (?:the|is|are|of|to|so|that|a) [a-z0-9$\\(]"
)
"""Sequences of words that occur early in most texts and never in a bare answer."""
_LABELLED = re.compile(
    r"A:\s|#+\s|(?i:(?:(?:la|le|il|die|der|das|el|o|a)\s+)?(?:r[ée]ponse|respuesta|risposta|resposta|antwort|ответ|odpowied[źz]|cevap|đáp|lösung)\b)"
)
_EAST_ASIAN = re.compile("[\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7a3]")
_CONNECTORS = re.compile(r"(?<=[\d)}])\s*(?:或者?|和|与|及|且)\s*(?=[-\d\\(a-z])")
"""Chinese words between the items of a bare answer."""
_SOLUTION = re.compile(
    r"(?:solution|lösung|solución|solução|soluzione|result|resultat|résultat|resultado|risultato|ans|sol|vastaus|решение)\s*[:：]\s*(?=\S)",
    re.IGNORECASE,
)
_ALPHA = re.compile(r"[^\W\d_]")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_LABEL = re.compile(r"^[\s*#>-]*([^\W\d_]{4,})\s*:")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)[a-z]*\s*\{[^{}]*\}")
_DELIMITERS = re.compile(r"\$\$?|\\[()\[\]]")
_KNOWN = words.FUNCTIONS.keys() | UNITS.keys() | GLUE | words.CONNECTORS.keys() | words.CONSTANTS.keys() | words.GREEK
_BESIDE = _KNOWN | words.CONDITIONS | {"percent", "percentage", "some", "all", "any", "square", "cubic"}
"""Words that may stand beside formulas in a bare answer."""


def is_prose(text: str) -> bool:
    """Return whether `text` contains words of a sentence, and not only mathematics, units and names."""
    if _ALPHA.search(text) is None:
        return False
    outside = _TEXT.sub(" ", text)
    if _LABEL.match(outside):
        return True
    found = _LETTERS.findall(outside)
    if (len(found) > 1 or (found and outside.startswith("I "))) and any(_PROSE.fullmatch(w) for w in found):
        return True
    return len(found) > 4 and sum(w not in _KNOWN for w in found) > 4


def without_delimiters(text: str) -> str:
    """Return `text` without the signs that open and close formulas."""
    if "$" not in text and ("\\" not in text or _DELIMITERS.search(text) is None):
        return text
    text = text.replace("\\$", "\x00")
    return _DELIMITERS.sub(" ", text).replace("\x00", "\\$")


def bare(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the whole text, if it is only an answer."""
    stripped = text.strip()
    if stripped.startswith("> **"):  # a quotation in Markdown
        stripped = stripped[2:]
    if stripped.startswith("**") and stripped.endswith("**") and "**" not in stripped[2:-2]:
        stripped = stripped[2:-2].strip()
    if len(stripped) < 80 and (label := _SOLUTION.match(stripped)) is not None:
        stripped = stripped[label.end() :]
    if not stripped or len(stripped) > MAX_ANSWER or "\n\n" in stripped:
        return
    if len(stripped) > 80 and (_COMMON.search(stripped, 0, 400) or is_prose(stripped[:2000])):
        return
    if _LABELLED.match(stripped) or (not stripped.isascii() and _EAST_ASIAN.search(_CONNECTORS.sub("", stripped))):
        return
    outside = _MATH.sub(" ", stripped)
    if is_prose(outside):
        return
    if len(outside) < len(stripped) and any(w not in _BESIDE for w in _LETTERS.findall(_TEXT.sub(" ", outside))):
        return
    if "$" in stripped or "\\(" in stripped or "\\[" in stripped:
        formulas = _MATH.search(stripped)
        if formulas is None and stripped.count("$") > 1:
            return
        if formulas is not None:
            stripped = without_delimiters(stripped)
    yield stripped.rstrip(".").strip() or stripped


# ---- within prose


def without_denied(text: str) -> str:
    """Return the end of a text without the values that it denies."""
    tail = text[-TAIL:]
    lowered = tail.lower()
    if not any(word in lowered for word in _DENIALS):
        return text
    return text[: len(text) - len(tail)] + _DENIED.sub(r"\1", tail)


def last_value(text: str) -> Iterator[str]:
    """Yield the last formula and the last number, the one that comes later first."""
    formula, numeral = next(math(text, ()), None), next(number(text, ()), None)
    if numeral is not None and not _MATH_END.search(text) and (formula is None or number_behind(text)):
        yield numeral
        numeral = None
    if formula is not None:
        yield formula
    if numeral is not None:
        yield numeral


_MATH_END = re.compile(r"(?:\$|\\\]|\\\))[\s.]*$")


def number_behind(text: str) -> bool:
    """Return whether a number follows the last formula."""
    tail = text[-TAIL:]
    end = max((m.end() for m in _MATH.finditer(tail)), default=0)
    return NUMBER.search(" " + tail[end:]) is not None


_BETWEEN = re.compile(r"[\s,]*(?:\b(?:and|or)\b)?[\s,]*")
_UNIT_BEHIND = re.compile(r"\s*(?:\\?%|percent\b|percentage\b|degrees?\b)")


def _inside(match: re.Match[str]) -> str:
    return match["dd"] or match["br"] or match["pa"] or match["d"] or ""


def formulas_at(text: str) -> str | None:
    """Return the formula that `text` begins with, and those that follow with "and", "or" or a comma between them."""
    match = _MATH.match(text)
    if match is None:
        return None
    found = [_inside(match)]
    end = match.end()
    while (gap := _BETWEEN.match(text, end)) and gap.end() > end and (match := _MATH.match(text, gap.end())):
        found.append(_inside(match))
        end = match.end()
    if _UNIT_BEHIND.match(text, end):
        found[-1] += "\\%" if "deg" not in text[end : end + 12] else "^\\circ"
    return ", ".join(found)


def math(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the last formula of the text, with those before it that "and", "or" or a comma connects to it."""
    tail = text[-TAIL:]
    matches = [m for m in _MATH.finditer(tail) if not is_prose(_inside(m))]
    if not matches:
        return
    first = len(matches) - 1
    while first and _BETWEEN.fullmatch(tail, matches[first - 1].end(), matches[first].start()):
        if matches[first - 1].end() == matches[first].start():
            break
        first -= 1
    joined = formulas_at(tail[matches[first].start() :])
    if joined is not None:
        yield joined
    if first < len(matches) - 1:
        yield _inside(matches[-1])


NUMBER = re.compile(
    r"-?\\[dt]?frac\s*\{[^{}]{1,40}\}\s*\{[^{}]{1,40}\}"
    r"|(?<![A-Za-z0-9_.,\\{^])(?:(?<![A-Za-z0-9)])-\s?)?[$€£]?\s?(?:"
    r"[1-9]\d{0,2}(?:,\d{3})+(?![\d,]*\d)(?:\.\d+)?|\d+(?:\.\d+|,\d{1,2}(?![\d,]))?|\.\d+)"
    r"(?:[eE][+-]?\d+)?(?:\s*/\s*\d+)?(?:\s*(?:\\?%|percent\b|percentage\b|pct\b))?"
)


_DENIED = re.compile(
    r"(\b(?:not|cannot|never|rather than|instead of|differs? from|different from)|n['’]t)"
    r"(?:\s+(?:be|equals?|equal to|necessarily|simply))*\s+"
    r"(?:\$[^$\n]{1,80}\$|\\\([^\n]{1,80}?\\\)|" + NUMBER.pattern + r")(?![\w$])"
)
"""A value that the text says is not the answer, as in "it can't be 42"."""
_DENIALS = ("not", "n't", "n’t", "never", "rather than", "instead of", "differ")
"""Parts of words of which every denial has one."""


_MEASURED = re.compile(r"[ ~]?([A-Za-zμΩ°]{1,12}(?:\^?[23])?(?:/[A-Za-zμ]{1,8}(?:\^?[23])?)?)(?=[\s.,;:!?)]|$)")
_NO_MEASURES = frozenset(
    [
        "in",
        "d",
        "t",
        "u",
        "M",
        "as",
        "pt",
        "A",
        "G",
        "h",
        "l",
        "s",
        "C",
        "F",
        "T",
        "H",
        "K",
        "N",
        "S",
        "V",
        "W",
        "J",
        "L",
    ]
)
"""Symbols of units that are also words, or letters with another meaning in a sentence."""


def number(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the last number of the text."""
    for window in (400, TAIL):
        tail = text[-window:]
        if len(text) > window:  # do not begin within a number
            tail = tail[tail.find(" ") + 1 :]
        last = None
        for match in NUMBER.finditer(tail):
            last = match
        if last is not None:
            found = last[0].replace("$", "").replace("€", "").replace("£", "")
            if re.fullmatch(r"-?\s*\d+,\d{1,2}", found.strip()):  # a decimal comma
                found = found.replace(",", ".")
            measured = _MEASURED.match(tail, last.end())
            if measured is not None and measured[1] not in _NO_MEASURES and unit(measured[1]) is not None:
                found += f" \\text{{{measured[1]}}}"
            yield found
            return
        if len(text) <= window:
            return


def whole(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the whole text, if it is short."""
    if len(text) <= 200:
        yield text
