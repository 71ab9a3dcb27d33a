"""Fenced code blocks of Markdown, as CommonMark defines them (https://spec.commonmark.org/0.31.2/#fenced-code-blocks).

Unlike in CommonMark, a fence may have any indentation, because models indent whole answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    """The first word after the opening fence, in lower case; empty if there is none."""
    start: int
    """The position in the text at which the first line starts."""
    end: int
    """The position at which the last line ends."""
    indent: str
    """The white space before the opening fence."""
    closed: bool
    """True if there is a closing fence; otherwise the block extends to the end of the text."""

    def content(self, text: str) -> str:
        """Return the block's lines without the indentation of the fence.

        Args:
            text: The text in which the block was found.
        """
        inside = text[self.start : self.end]
        if not self.indent:
            return inside
        return "\n".join(line.removeprefix(self.indent) for line in inside.split("\n"))


def fenced_blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of ``text``, in order. Takes linear time in its length."""
    fence, language, indent, start = "", "", "", 0
    for line in _FENCE.finditer(text):
        marks, info = line[2], line[3].strip()
        if not fence:
            if marks[0] == "`" and "`" in info:  # inline code, not a fence
                continue
            words = info.split(None, 1)
            fence, indent, start = marks, line[1], min(line.end() + 1, len(text))
            language = words[0].strip("{}.").lower() if words else ""
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not info:
            yield Block(language, start, max(start, line.start()), indent, closed=True)
            fence = ""
    if fence:
        yield Block(language, start, len(text), indent, closed=False)
