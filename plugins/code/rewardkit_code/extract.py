"""The program in a completion: fenced blocks of Markdown, `<answer>` tags, or the whole text."""

from __future__ import annotations

import re
from typing import Literal

from rewardkit_sandbox.languages import find

Extraction = Literal["fenced", "whole"]
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n`]*)$", re.MULTILINE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_NAMES = {
    "python": {"python", "py", "python3", "py3"},
    "cpp": {"cpp", "c++", "cxx", "cc"},
    "c": {"c"},
    "javascript": {"javascript", "js", "node", "nodejs"},
    "rust": {"rust", "rs"},
    "go": {"go", "golang"},
    "bash": {"bash", "sh", "shell"},
}


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of each fenced block; one that is not closed reaches to the end."""
    found: list[tuple[str, str]] = []
    fence, language, start = "", "", 0
    for line in _FENCE.finditer(text):
        marks, info = line[1], line[2].strip()
        if not fence:
            fence, start = marks, min(line.end() + 1, len(text))
            language = info.split(None, 1)[0].strip("{}.").lower() if info else ""
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not info:
            found.append((language, text[start : line.start()]))
            fence = ""
    if fence:
        found.append((language, text[start:]))
    return found


def program(text: str, language: str, extraction: Extraction) -> str | None:
    """The program of a completion, or None where there is none.

    Of the text in the last `<answer>`, or else all of it: the last fenced block of the language, or else the last one
    without a language. `whole` takes the text as it is.
    """
    if extraction == "whole":
        return text if text.strip() else None
    answers = _ANSWER.findall(text)
    for part in (*answers[-1:], text):
        fenced = [(name, code) for name, code in blocks(part) if code.strip()]
        names = _NAMES[find(language).name]
        for wanted in (names, {""}):
            matching = [code for name, code in fenced if name in wanted]
            if matching:
                return matching[-1]
    bare = answers[-1] if answers else ""
    return bare if bare.strip() and not blocks(bare) else None
