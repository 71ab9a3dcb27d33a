"""Where in a text the answer stands: from the most explicit mark to the least.

Every search is bounded and linear, runs from the end of the text, and looks at no more of it than it needs: a text of a megabyte
with a box near its end costs as little as a short one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rewardkit_math import vocabulary as words
from rewardkit_math.text import to_latex

SOURCES = ("tag", "boxed", "hash", "bare", "phrase", "math", "number", "text")
r"""Where an answer may stand, most trusted first:

`tag` the last `<answer>…</answer>`; `boxed` the last `\boxed{…}` (with its neighbours in "\boxed{1} and \boxed{2}"); `hash` behind
`####`; `bare` the whole text is nothing but an answer; `phrase` behind "answer is", "answer:", "A:"; `math` the last formula between
dollar signs, `\(…\)` or `\[…\]`; `number` the last number; `text` the whole text, if it is short.
"""

TAIL = 8_000
"""How many characters before the end the less explicit sources look at."""

MAX_ANSWER = 40_000


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it stands in a text."""

    text: str
    """What was found, without the mark that it was found by."""

    source: str
    """The mark: one of SOURCES, or "" when nothing was found."""

    def __bool__(self) -> bool:
        return bool(self.source)


NOTHING = Answer("", "")

_END = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</s>")


def extract(text: str, sources: tuple[str, ...] = SOURCES) -> Answer:
    """The answer in `text`, from the most trusted source that has one; an empty `Answer` where none has."""
    return next(candidates(text, sources), NOTHING)


def candidates(text: str, sources: tuple[str, ...] = SOURCES) -> Iterator[Answer]:
    """All answers that `text` may be giving, most trusted first."""
    after = text.rfind("</think>")
    if after >= 0 and text[after + 8 :].strip():
        text = text[after + 8 :]
    if "<|" in text or "</s>" in text:
        end = _END.search(text)
        if end and text[: end.start()].strip():
            text = text[: end.start()]
    for source in _ordered(text, sources):
        for found in _FINDERS[source](text, sources):
            stripped = found.strip()
            if stripped and len(stripped) <= MAX_ANSWER:
                yield Answer(to_latex(stripped), source)


def _ordered(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    """The sources in their order; the last number before the last formula where it stands behind it."""
    waiting = list(sources)
    while waiting:
        source = waiting.pop(0)
        if source == "bare" and "boxed" in sources and _box_before(text, len(text)) >= 0:
            waiting = [
                s for s in waiting if s in ("phrase", "hash")
            ]  # the box was empty or cut off: nothing implicit counts
            continue
        if source == "math" and "number" in waiting and _number_behind(text):
            waiting.remove("number")
            yield "number"
        yield source


# ---- explicit marks


def _tag(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end if end >= 0 else len(text))
    if start >= 0:
        inside = text[start + 8 : end if end >= 0 else len(text)]
        inner = extract(inside, tuple(s for s in sources if s != "tag") or ("bare",))
        yield inner.text or inside


_JOIN = re.compile(
    r"(?:\s*[A-Za-z]{1,12}(?=\s+(?:and|or)\b))?"
    r"(?:[\s,;$&+~]|\\\\?$|\\[()\[\],;:! ]|\\q?quad|\\(?:text|mathrm)\s*\{[\s,]*(?:and|or)?\s*\}|\b(?:and|or)\b)*"
)
_BEHIND = re.compile(r"[\s$~]*(?:\\[)\]])?\s*(?:\\?%|percent\b)")


def _boxed(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """The content of the last box, or of the last few with nothing but "and" between them."""
    boxes: list[str] = []
    before = len(text)
    stated = _stated_after_box(text)
    if stated:
        yield stated
    for _attempt in range(12):
        start = _box_before(text, before)
        if start < 0:
            break
        content, end = _box_content(text, start)
        if boxes:
            between = text[end:before] if content is not None and end <= before <= end + 60 else "."
            if "\n\n" in between or not _JOIN.fullmatch(between):
                break
        elif content is not None and (percent := _BEHIND.match(text, end)) and percent[0].strip(" $"):
            content += "%"
        before = _command_start(text, start)
        if content is not None and (content := content.strip()):
            if not boxes or content not in boxes:
                boxes.append(content)
            if len(boxes) == 1 and (not before or text.rfind("boxed", max(0, before - MAX_ANSWER), before) < 0):
                break
    if len(boxes) == 1:
        yield boxes[0]
    elif boxes:
        yield ", ".join(reversed(boxes))


def _stated_after_box(text: str) -> str | None:
    """The formula or number of a "final answer is …" that stands behind the last box."""
    tail = text[max(text.rfind("boxed"), len(text) - TAIL) :]
    last = None
    for match in _PHRASES[0][1].finditer(tail) if "inal" in tail else ():
        last = match
    if last is None:
        return None
    rest = tail[last.end() : last.end() + 2000].strip()
    formulas = _formulas_at(rest)
    if formulas is not None:
        return formulas
    number = _NUMBER.match(rest)
    end = _SENTENCE_END.search(rest)
    return number[0] if number and end and number.end() == end.start() else None


def _box_before(text: str, before: int) -> int:
    """Where the argument of the last box command before a position begins, or −1."""
    while True:
        box = text.rfind("boxed", 0, before)
        frame = text.rfind("\\fbox", max(box, 0), before)
        if frame >= 0:
            return frame + 5
        if box < 0:
            return -1
        if text[box - 1 : box] == "\\" or text.endswith("\\begin", 0, box):
            return box + 5
        before = box


def _command_start(text: str, argument: int) -> int:
    return text.rfind("\\", 0, argument)


def _box_content(text: str, start: int) -> tuple[str | None, int]:
    """The argument at `start` and where it ends; None for a brace that is never closed."""
    while start < len(text) and text[start] in " \n\t":
        start += 1
    if text[start : start + 1] != "{":
        end = start
        while end < len(text) and not text[end].isspace() and text[end] not in "$,;":
            end += 1
        return text[start:end].rstrip(".") or None, end
    first = text.find("}", start)
    if first >= 0 and text.find("{", start + 1, first) < 0 and text[first - 1] != "\\":
        return text[start + 1 : first], first + 1
    depth = 0
    for match in _BRACE.finditer(text, start, start + MAX_ANSWER):
        brace = match[0]
        if brace == "{":
            depth += 1
        elif brace == "}":
            depth -= 1
            if not depth:
                return text[start + 1 : match.start()], match.end()
    return None, start


_BRACE = re.compile(r"\\[{}]|\\\\|[{}]")


def _hash(text: str, _: tuple[str, ...]) -> Iterator[str]:
    at = text.rfind("####")
    if at >= 0:
        yield text[at + 4 :].strip().split("\n", 1)[0]


# ---- a text that is nothing but an answer

_MATH = re.compile(
    r"\$\$(?P<dd>[^$]{1,2000}?)\$\$|\\\[(?P<br>(?:(?!\\\[).){1,2000}?)\\\]|\\\((?P<pa>(?:(?!\\\().){1,800}?)\\\)"
    r"|(?<!\\)\$(?P<d>(?:\\\$|[^$\n]){1,800}?)(?<!\\)\$",
    re.DOTALL,
)
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:the|is|are|it|its|of|that|this|we|so|therefore|thus|hence|answer|answers|because|which|was|were|has|have|can|"
    r"will|my|your|you|get|result|solution|solutions|value|equal|equals|final|i|let|then|there|he|she|they|by|be|not|number|"
    r"perimeter|area|step|first|since|using|choice|problem|question|makes|make)(?![A-Za-z])",
    re.IGNORECASE,
)
_COMMON = re.compile(
    r"\b(?:the|is|are|of|to|so|that|and) [a-z]{2,} [a-z]{2,}\b|\b[A-Z]?[a-z]+ (?:the|is|are|of|to|so|that|a) [a-z0-9$\\(]"
)
"""A few words that only a sentence has in this order: found early in most texts, and missing from bare answers."""
_LABELLED = re.compile(r"A:\s|#+\s|.*[\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7a3]", re.DOTALL)
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_LABEL = re.compile(r"^[\s*#>-]*([A-Za-zÀ-ÿ]{4,})\s*:")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)[a-z]*\s*\{[^{}]*\}")
_DELIMITERS = re.compile(r"\$\$?|\\[()\[\]]")
_KNOWN = words.FUNCTIONS.keys() | words.UNITS.keys() | words.CONNECTORS.keys() | words.CONSTANTS.keys() | words.GREEK


_BESIDE = _KNOWN | words.CONDITIONS | {"percent", "percentage", "some", "all", "any", "square", "cubic"}
"""Words that may stand beside formulas in a bare answer."""


def is_prose(text: str) -> bool:
    """Whether `text` holds words of a sentence, rather than mathematics, units and names."""
    if not any(c.isalpha() for c in text):
        return False
    outside = _TEXT.sub(" ", text)
    if _LABEL.match(outside):
        return True
    found = _LETTERS.findall(outside)
    return (len(found) > 1 and any(_PROSE.fullmatch(w) for w in found)) or sum(w not in _KNOWN for w in found) > 4


def without_delimiters(text: str) -> str:
    """`text` without the signs that open and close formulas."""
    if "$" not in text and "\\" not in text:
        return text
    text = text.replace("\\$", "\x00")
    return _DELIMITERS.sub(" ", text).replace("\x00", "\\$")


def _bare(text: str, _: tuple[str, ...]) -> Iterator[str]:
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_ANSWER or "\n\n" in stripped or _LABELLED.match(stripped):
        return
    if len(stripped) > 80 and (_COMMON.search(stripped, 0, 400) or is_prose(stripped[:2000])):
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

_PHRASES = tuple(
    (words_in_it, re.compile(pattern, re.IGNORECASE))
    for words_in_it, pattern in (
        (("inal",), r"\bfinal\s+answer\b[^.\n:=$\\]{0,60}?(?:\bis\b|[:=])[\s:*]*"),
        (
            ("nswer", "A:", "NSWER", "答案"),
            (
                r"(?:(?:^|\n)\s*A:|答案(?:是|为|應為|应为)?\s*[:：是为]?"
                r"|\banswers?\b[^.\n:=$\\]{0,60}?(?:\bis\b|\bare\b|[:=]|\**[ \t]*(?=\n)))[\s:*]*"
            ),
        ),
        (("esult", "ption", "hoice", "olution"), r"\b(?:result|option|choice|solutions?)\s+(?:is|are)\b[\s:*]*"),
    )
)
"""Most trusted first; of each, the last in the text. Before the pattern stand parts of words one of which must be there."""
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$|\*)|。")


def _phrase(text: str, _: tuple[str, ...]) -> Iterator[str]:
    tail = text[-TAIL:]
    for parts, phrase in _PHRASES:
        if not any(part in tail for part in parts):
            continue
        last = None
        for match in phrase.finditer(tail):
            if tail[match.end() : match.end() + 1].strip():
                last = match
        if last is not None:
            yield from _stated(tail[last.end() : last.end() + 2000].strip())
            return


def _stated(rest: str) -> Iterator[str]:
    """What the sentence says that `rest` begins with."""
    formulas = _formulas_at(rest)
    if formulas is not None:
        yield formulas
    end = _SENTENCE_END.search(rest)
    sentence = (rest[: end.start()] if end else rest).strip().strip("*").strip()
    if formulas is None and not is_prose(sentence):
        yield without_delimiters(sentence)
    yield from _last(sentence)


def _last(text: str) -> Iterator[str]:
    """The last formula and the last number, the one further behind first."""
    formula, number = next(_math(text, ()), None), next(_number(text, ()), None)
    if number is not None and not _MATH_END.search(text) and (formula is None or _number_behind(text)):
        yield number
        number = None
    if formula is not None:
        yield formula
    if number is not None:
        yield number


_MATH_END = re.compile(r"(?:\$|\\\]|\\\))[\s.]*$")


def _number_behind(text: str) -> bool:
    """Whether a number stands behind the last formula."""
    tail = text[-TAIL:]
    end = max((m.end() for m in _MATH.finditer(tail)), default=0)
    return _NUMBER.search(" " + tail[end:]) is not None


_BETWEEN = re.compile(r"[\s,]*(?:\b(?:and|or)\b)?[\s,]*")
_UNIT_BEHIND = re.compile(r"\s*(?:\\?%|percent\b|percentage\b|degrees?\b)")


def _inside(match: re.Match[str]) -> str:
    return match["dd"] or match["br"] or match["pa"] or match["d"] or ""


def _formulas_at(text: str) -> str | None:
    """The formula that `text` begins with, and those that follow with "and", "or" or a comma between them."""
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


def _math(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """The last formula of the text, with those before it that "and", "or" or a comma connects to it."""
    tail = text[-TAIL:]
    matches = [m for m in _MATH.finditer(tail) if not is_prose(_inside(m))]
    if not matches:
        return
    first = len(matches) - 1
    while first and _BETWEEN.fullmatch(tail, matches[first - 1].end(), matches[first].start()):
        if matches[first - 1].end() == matches[first].start():
            break
        first -= 1
    joined = _formulas_at(tail[matches[first].start() :])
    if joined is not None:
        yield joined
    if first < len(matches) - 1:
        yield _inside(matches[-1])


_NUMBER = re.compile(
    r"-?\\[dt]?frac\s*\{[^{}]{1,40}\}\s*\{[^{}]{1,40}\}"
    r"|(?<![A-Za-z0-9_.,\\{^])(?:(?<![A-Za-z0-9)])-\s?)?[$€£]?\s?(?:"
    r"[1-9]\d{0,2}(?:,\d{3})+(?![\d,]*\d)(?:\.\d+)?|\d+(?:\.\d+|,\d{1,2}(?![\d,]))?|\.\d+)"
    r"(?:[eE][+-]?\d+)?(?:\s*/\s*\d+)?(?:\s*(?:\\?%|percent\b|percentage\b|pct\b))?"
)


def _number(text: str, _: tuple[str, ...]) -> Iterator[str]:
    for window in (400, TAIL):
        tail = text[-window:]
        if len(text) > window:  # do not begin within a number
            tail = tail[tail.find(" ") + 1 :]
        last = None
        for match in _NUMBER.finditer(tail):
            last = match
        if last is not None:
            found = last[0].replace("$", "").replace("€", "").replace("£", "")
            if re.fullmatch(r"-?\s*\d+,\d{1,2}", found.strip()):  # a decimal comma
                found = found.replace(",", ".")
            yield found
            return
        if len(text) <= window:
            return


def _text(text: str, _: tuple[str, ...]) -> Iterator[str]:
    if len(text) <= 200:
        yield text


_FINDERS = {
    "tag": _tag,
    "boxed": _boxed,
    "hash": _hash,
    "bare": _bare,
    "phrase": _phrase,
    "math": _math,
    "number": _number,
    "text": _text,
}
