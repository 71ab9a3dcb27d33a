"""Where in a text the answer stands: from the most explicit mark to the least.

Every search is bounded and linear, runs from the end of the text, and looks at no more of it than it needs: a text of a megabyte
with a box near its end costs as little as a short one. `marks` has what a text marks as its answer, `prose` what is left to find
in sentences.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rewardkit_math.extraction import marks, prose, statements
from rewardkit_math.extraction.marks import boxes
from rewardkit_math.extraction.prose import is_prose, without_delimiters
from rewardkit_math.parsing.text import to_latex

__all__ = ["SOURCES", "Answer", "boxes", "candidates", "extract", "is_prose", "without_delimiters"]

SOURCES = ("tag", "boxed", "hash", "bare", "phrase", "math", "number", "text")
r"""Where an answer may stand, most trusted first:

`tag` the last `<answer>…</answer>`; `boxed` the last `\boxed{…}` (with its neighbours in "\boxed{1} and \boxed{2}"); `hash` behind
`####`; `bare` the whole text is nothing but an answer; `phrase` behind "answer is", "answer:", "A:"; `math` the last formula between
dollar signs, `\(…\)` or `\[…\]`; `number` the last number; `text` the whole text, if it is short.
"""


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
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,6});")
_END = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</s>")


def extract(text: str, sources: tuple[str, ...] = SOURCES) -> Answer:
    """The answer in `text`, from the most trusted source that has one; an empty `Answer` where none has."""
    return next(candidates(text, sources), NOTHING)


def candidates(text: str, sources: tuple[str, ...] = SOURCES) -> Iterator[Answer]:
    """All answers that `text` may be giving, most trusted first."""
    after = text.rfind("</think>")
    if after >= 0 and text[after + 8 :].strip():
        text = text[after + 8 :]
    elif after < 0 and (opened := text.rfind("<think>")) >= 0:
        # Thinking that was cut off holds no answer, but a whole answer tag ends thinking that was never closed.
        tagged = text.rfind("<answer>", opened)
        text = text[tagged:] if tagged >= 0 and "</answer>" in text[tagged:] else text[:opened]
    if "<|" in text or "</s>" in text:
        end = _END.search(text)
        if end and text[: end.start()].strip():
            text = text[: end.start()]
    if "&" in text and ";" in text:
        start = max(0, len(text) - 2 * prose.MAX_ANSWER)
        text = text[:start] + _ENTITY.sub(lambda m: html.unescape(m[0]), text[start:])
    for source in _ordered(text, sources):
        for found in _FINDERS[source](text, sources):
            stripped = found.strip()
            if stripped and len(stripped) <= prose.MAX_ANSWER:
                yield Answer(to_latex(stripped), source)


def _ordered(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    """The sources in their order; the last number before the last formula where it stands behind it."""
    waiting = list(sources)
    while waiting:
        source = waiting.pop(0)
        if source == "bare" and "boxed" in sources and marks.box_before(text, len(text)) >= 0:
            waiting = [
                s for s in waiting if s in ("phrase", "hash")
            ]  # the box was empty or cut off: nothing implicit counts
            continue
        if source == "math" and "number" in waiting and prose.number_behind(text):
            waiting.remove("number")
            yield "number"
        yield source


def _tag(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end if end >= 0 else len(text))
    if start >= 0:
        inside = text[start + 8 : end if end >= 0 else len(text)]
        if len(inside) < 300:
            inside = statements.clause(inside)
        inner = extract(inside, tuple(s for s in sources if s != "tag") or ("bare",))
        yield inner.text or inside


_FINDERS = {
    "tag": _tag,
    "boxed": marks.boxed_mark,
    "hash": marks.hash_mark,
    "bare": prose.bare,
    "phrase": statements.phrase,
    "math": prose.math,
    "number": prose.number,
    "text": prose.whole,
}
