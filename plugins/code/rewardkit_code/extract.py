"""The program in a completion: fenced blocks of Markdown, `<answer>` tags, or the whole text."""

from __future__ import annotations

import re
from typing import Literal

Extraction = Literal["fenced", "whole"]
Language = Literal["python", "c", "cpp", "javascript", "rust", "go", "bash"]
_FENCE = re.compile(r"^([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
"""A line that opens or closes a block, as CommonMark has it, but indented as far as it likes, or beginning an item of a list."""
_TAG = re.compile(r"[\w+#-]+")
_NAMES: dict[str, frozenset[str]] = {
    "python": frozenset({"python", "py", "python3", "py3"}),
    "cpp": frozenset({"cpp", "c++", "cxx", "cc"}),
    "c": frozenset({"c"}),
    "javascript": frozenset({"javascript", "js", "node", "nodejs"}),
    "rust": frozenset({"rust", "rs"}),
    "go": frozenset({"go", "golang"}),
    "bash": frozenset({"bash", "sh", "shell"}),
}
_ANY = frozenset[str]().union(*_NAMES.values())


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of each fenced block, without the indentation of its fence.

    One that is not closed reaches to the next fence that names a language, or to the end. A fence deep inside a block, as in
    a docstring, closes nothing. Linear in the length of the text.
    """
    found: list[tuple[str, str]] = []
    fence, language, width, start = "", "", 0, 0
    for line in _FENCE.finditer(text):
        before, marks, info = line[1], line[2], line[3].strip()
        tag = _tag(info)
        if fence:
            alike = marks[0] == fence[0] and len(marks) >= len(fence)
            closes = alike and not info and not before.strip() and len(before) <= width + 3
            reopens = alike and tag in _ANY and len(before) <= width
            if not (closes or reopens):
                continue
            found.append((language, _content(text[start : line.start()], width)))
            fence = ""
            if closes:
                continue
        if marks[0] == "`" and "`" in info:  # that is code within a line
            continue
        fence, language, width, start = marks, tag, len(before), min(line.end() + 1, len(text))
    if fence:
        found.append((language, _content(text[start:], width)))
    return found


def _tag(info: str) -> str:
    named = _TAG.search(info.split(None, 1)[0]) if info else None
    return named[0].lower() if named else ""


def _content(code: str, width: int) -> str:
    return re.sub(rf"^[ \t]{{1,{width}}}", "", code, flags=re.MULTILINE) if width else code


def program(text: str, language: str, extraction: Extraction) -> str | None:
    """The program of a completion, or None where there is none.

    It is looked for in the last `<answer>`, then in what follows the last `</think>`, then everywhere: the last fenced block
    of the language, or else the last one without a language. An answer without any fence is the program itself.
    `whole` takes the text as it is.
    """
    if extraction == "whole":
        return text if text.strip() else None
    text = text.replace("\r\n", "\n")
    said = text.rpartition("</think>")[2]
    _, tag, rest = said.rpartition("<answer>")
    answer = rest.partition("</answer>")[0] if tag else None
    for part in (said,) if answer is None else (answer, said):
        if (code := _last(part, language)) is not None:
            return code
    if answer is not None and answer.strip() and not blocks(answer):
        return answer.strip("\n")
    return _last(text, language) if said is not text else None


def _last(text: str, language: str) -> str | None:
    if "```" not in text and "~~~" not in text:
        return None
    found = [(tag, code) for tag, code in blocks(text) if code.strip()]
    for names in (_NAMES[language], {""}):
        for tag, code in reversed(found):
            if tag in names:
                return code
    return None
