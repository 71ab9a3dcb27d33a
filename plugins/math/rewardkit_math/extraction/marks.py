r"""Answers that a text marks: `\boxed{…}`, `####`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit_math.extraction.prose import MAX_ANSWER, NUMBER, TAIL, formulas_at
from rewardkit_math.extraction.statements import FINAL, SENTENCE_END, clause

_JOIN = re.compile(
    r"(?:\s*[A-Za-z]{1,12}(?=\s+(?:and|or)\b))?"
    r"(?:[\s,;，、；和或与及$&+~]|\\\\?$|\\[()\[\],;:! ]|\\q?quad|\\(?:text|mathrm)\s*\{[\s,]*(?:and|or|[和或与及])?\s*\}|\b(?:and|or)\b)*"
)
_JOIN_NAMED = re.compile(r"[\s$,]*(?:\\text\s*\{\s*)?\b(?:and|or)\b[\s},$]*[A-Za-z](?:_\{?\w\}?)?\s*=\s*")
"""Text between two boxes of one list, if the second box has a name before it: `x = \\boxed{1}` or `x = \\boxed{2}`."""
_MAX_JOIN = 60
"""The most characters between two boxes of one list."""
_BEHIND = re.compile(r"[\s$~]*(?:\\[)\]])?\s*(?:\\?%|percent\b)")
_BRACE = re.compile(r"\\[{}]|\\\\|[{}]")


def boxed_mark(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the content of the last box, joined to the boxes before it if only "and", "or" or a comma stands between them.

    A "final answer is …" after the last box comes first.
    """
    if text.rfind("box") < 0:  # a search from the end finds a box sooner than `in`
        return
    stated = _stated_after_box(text)
    if stated:
        yield stated
    boxes: list[str] = []
    before = len(text)
    for _attempt in range(12):
        start = box_before(text, before)
        if start < 0:
            break
        content, end = _box_content(text, start)
        if boxes:
            between = text[end:before] if content is not None and end <= before <= end + _MAX_JOIN else "."
            if (
                "\n\n" in between
                or not between.strip(" $\n\t~")
                or not (_JOIN.fullmatch(between) or _JOIN_NAMED.fullmatch(between))
            ):
                break
        elif content is not None and (percent := _BEHIND.match(text, end)) and percent[0].strip(" $"):
            content += "%"
        before = _command_start(text, start)
        if content is not None and (content := content.strip()):
            if not boxes or content not in boxes:
                boxes.append(content)
            if len(boxes) == 1 and _alone(text, before):
                break
    if len(boxes) == 1:
        yield boxes[0]
    elif boxes:
        yield ", ".join(reversed(boxes))


def sole_box(text: str) -> str | None:
    """Return the content of the last box if no other rule for boxes can apply to the text; a short cut for most completions."""
    start = text.rfind("box") - 1
    if start < 0 or not text.startswith("\\boxed{", start):
        return None
    content, end = _box_content(text, start + 6)
    if content is None or text.find("inal", end) >= 0 or not _alone(text, start):
        return None
    behind = text[end : end + 24]
    if "%" in behind or "percent" in behind:
        return None
    return content.strip() or None


def _alone(text: str, before: int) -> bool:
    """Return whether no other box can belong to the list of the box that begins at `before`."""
    gap = text[max(0, before - _MAX_JOIN - 1) : before]
    return ("}" not in gap and "box" not in gap) or text.rfind("box", max(0, before - MAX_ANSWER), before) < 0


def _stated_after_box(text: str) -> str | None:
    """Return the formula or number of a "final answer is …" that comes after the last box."""
    box = text.rfind("boxed")
    start = max(box, len(text) - TAIL)
    if box < 0 or text.find("inal", start) < 0:
        return None
    tail = text[start:]
    last = None
    for match in FINAL.finditer(tail):
        last = match
    if last is None:
        return None
    rest = tail[last.end() : last.end() + 2000].strip()
    formulas = formulas_at(rest)
    if formulas is not None:
        return formulas
    number = NUMBER.match(rest)
    end = SENTENCE_END.search(rest)
    return number[0] if number and end and number.end() == end.start() else None


def box_before(text: str, before: int) -> int:
    """Return the position of the argument of the last box command before a position, or -1 if there is none."""
    boxed = text.rfind("\\boxed", 0, before)
    frame = text.rfind("\\fbox", max(boxed, 0), before)
    if frame >= 0:
        return frame + 5
    if boxed >= 0:
        return boxed + 6
    begun = text.rfind("\\beginboxed", 0, before)
    return begun + 11 if begun >= 0 else -1


def _command_start(text: str, argument: int) -> int:
    return text.rfind("\\", 0, argument)


def _box_content(text: str, start: int) -> tuple[str | None, int]:
    """Return the argument at `start` and the position after it; None instead of the argument if its brace is never closed."""
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


def hash_mark(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the rest of the line after the last `####`."""
    if "####" in text:
        at = text.rfind("####")
        line = text[at + 4 :].strip().split("\n", 1)[0].strip()
        yield clause(line)


def boxes(text: str) -> list[str]:
    """Return the contents of all boxes of a text in order, without repetitions.

    Returns:
        The contents; an empty list if there are more boxes than an answer that is a list may have (12).
    """
    found: list[str] = []
    before = len(text)
    for _ in range(_MAX_BOXES):
        start = box_before(text, before)
        if start < 0:
            return list(dict.fromkeys(reversed(found)))
        content, _end = _box_content(text, start)
        if content is not None and content.strip():
            found.append(content.strip())
        before = _command_start(text, start)
    return []


_MAX_BOXES = 12
