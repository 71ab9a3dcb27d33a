"""The program in a completion: fenced blocks of Markdown, `<answer>` and `<code>` tags, or the whole text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

Extraction = Literal["last", "first", "defining", "whole"]
TextExtraction = Literal["last", "first", "whole"]
"""For rewards that have no tests, and so no names to look for."""
Language = Literal["python", "c", "cpp", "javascript", "rust", "go", "bash"]
_FENCE = re.compile(r"^([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
"""A line that opens or closes a block, as in CommonMark, but with any indentation, or as the start of a list item."""
_TAG = re.compile(r"[\w+#-]+")
_NAMES: dict[str, frozenset[str]] = {
    "python": frozenset({"python", "py", "python3", "py3", "ipython", "ipython3"}),
    "cpp": frozenset({"cpp", "c++", "cxx", "cc"}),
    "c": frozenset({"c"}),
    "javascript": frozenset({"javascript", "js", "node", "nodejs"}),
    "rust": frozenset({"rust", "rs"}),
    "go": frozenset({"go", "golang"}),
    "bash": frozenset({"bash", "sh", "shell"}),
}
_ANY = frozenset[str]().union(*_NAMES.values())
_MARKS = (("<code", "</code>"), ("[PYTHON]", "[/PYTHON]"), ("[BEGIN]", "[DONE]"), ("<python>", "</python>"))
"""Tags that some models write instead of fences."""
_CODE_LINE = re.compile(r"(?:def|class|import|from|async def|if|for|while|try:|with|print|@|#)\b|@\w|#|\w+\s*=|\w+\(")
_READS_INPUT = re.compile(r"\binput\b|\bstdin\b|\bopen\(\s*0\b|\bfileinput\b|\bos\.read\(\s*0\b|/dev/stdin")
_IMPORTS = re.compile(r"^(?:from\s+[\w.]+\s+)?import\s+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_DEFINITIONS = re.compile(
    r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)|^([A-Z][A-Z0-9_]*)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE
)


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, code) of each fenced block, without the indentation of its fence.

    A block that is not closed ends at the next fence that names a language, or at the end of the text. A fence that is
    indented deeper than its block, as in a docstring, does not close it. Takes linear time in the length of the text.

    Args:
        text: Markdown with LF line ends.
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
        if marks[0] == "`" and "`" in info:  # inline code
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


def program(
    text: str, language: str, extraction: Extraction, names: Sequence[str] = (), *, reads_input: bool = False
) -> str | None:
    """Return the program of a completion, or None if there is none.

    The search covers the last `<answer>`, then the text after the last `</think>`, then the whole text. In each, fenced
    blocks of the language count, or else blocks without a language, or else `<code>` tags. An `<answer>` without any of
    these is the program itself.

    Args:
        text: The completion.
        language: The programming language.
        extraction: `last` or `first` of the blocks; `defining`: the last block that defines one of `names`, together with
            the earlier blocks whose functions, classes and imports it uses; `whole`: the text as it is.
        names: The functions and classes that the tests use.
        reads_input: Whether the program is tested by its output for an input: without `names`, `defining` then takes the
            last block that reads its input.
    """
    if extraction == "whole":
        return text if text.strip() else None
    text = text.replace("\r\n", "\n")
    said = text.rpartition("</think>")[2]
    _, tag, rest = said.rpartition("<answer>")
    answer = rest.partition("</answer>")[0] if tag else None
    for part in (said,) if answer is None else (answer, said):
        if found := _candidates(part, language):
            return _choose(found, extraction, names, reads_input=reads_input)
    if answer is not None and answer.strip() and not blocks(answer):
        return answer.strip("\n")
    if said is not text and (found := _candidates(text, language)):
        return _choose(found, extraction, names, reads_input=reads_input)
    if extraction == "defining" and not blocks(said):
        return _bare(said, names)
    return None


def _candidates(text: str, language: str) -> list[str]:
    """The blocks that may be the program: those of the language, else those without a language, else tagged ones."""
    if "```" in text or "~~~" in text:
        found = [(tag, code) for tag, code in blocks(text) if code.strip()]
        for names in (_NAMES[language], {""}):
            if own := [code for tag, code in found if tag in names]:
                return own
        if found:
            return []
    for opening, closing in _MARKS:
        if opening in text and (tagged := _tagged(text, opening, closing)):
            return tagged
    return []


def _tagged(text: str, opening: str, closing: str) -> list[str]:
    found = []
    for part in text.split(opening)[1:]:
        inner = part.partition(closing)[0]
        if opening == "<code":  # the tag may have attributes
            head, ends, inner = inner.partition(">")
            if not ends or "\n" in head:
                continue
        if inner.strip():
            found.append(inner.strip("\n") + "\n")
    return found


def _bare(text: str, names: Iterable[str]) -> str | None:
    """A completion without any marks that is a program itself: it begins with code and defines a name that the tests use."""
    begins = _CODE_LINE.match(text.lstrip())
    return text.strip("\n") + "\n" if begins and any(defines(text, name) for name in names) else None


def _choose(found: Sequence[str], extraction: Extraction, names: Sequence[str], *, reads_input: bool) -> str:
    if extraction == "first":
        return found[0]
    if extraction == "last" or len(found) == 1:
        return found[-1]
    at = len(found) - 1
    if names:
        defining = [number for number, code in enumerate(found) if any(defines(code, name) for name in names)]
        at = defining[-1] if defining else at
    elif reads_input:
        reading = [number for number, code in enumerate(found) if _READS_INPUT.search(code)]
        at = reading[-1] if reading else at
    return _with_helpers(found[:at], found[at], is_script=not names)


def _with_helpers(earlier: Sequence[str], code: str, *, is_script: bool) -> str:
    """Return the code, preceded by the earlier blocks that define names which it uses but does not define.

    A script is a whole program: an earlier block that defines a function of it again is an earlier version of it.
    """
    for block in reversed(earlier):
        own = top_level_names(code)
        lent = top_level_names(block) - own
        if is_script and own & _functions(block):
            continue
        if any(re.search(rf"(?<![.\w]){re.escape(name)}\b", code) for name in lent):
            code = f"{block.rstrip()}\n\n{code}"
    return code


def _functions(code: str) -> set[str]:
    return {found[1] for found in _DEFINITIONS.finditer(code) if found[1]}


def top_level_names(code: str) -> set[str]:
    """Return the functions, classes, constants and imports that stand at the top level of Python code.

    The code is not parsed, because a completion may be anything.
    """
    names = {found[1] or found[2] for found in _DEFINITIONS.finditer(code)}
    for found in _IMPORTS.finditer(code):
        for part in found[1].strip("() \t").split(","):
            words = part.split("#")[0].split()
            if words:
                names.add(words[-1].partition(".")[0])
    return names


def defines(code: str, name: str) -> bool:
    """Return whether code defines a function, class or method of this name, or assigns to it at the top level.

    Args:
        code: Python code; it is not parsed, because a completion may be anything.
        name: A plain or dotted name; of `Solution.total` either part counts.
    """
    parts = [re.escape(part) for part in name.split(".")]
    either = "|".join(parts)
    return (
        re.search(
            rf"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(?:{either})\b|^(?:{parts[0]})[ \t]*[:=](?!=)",
            code,
            re.MULTILINE,
        )
        is not None
    )
