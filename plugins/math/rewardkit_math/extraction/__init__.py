"""Find the answer in a text, from the most explicit mark to the least explicit one.

Every search is linear and bounded, and starts at the end of the text where it can, so that a text of a megabyte with a box near
its end costs little more than a short one. `marks` finds boxes and `####`, `statements` sentences that state an answer, and
`prose` the last formula or number.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rewardkit_math.extraction import marks, prose, statements
from rewardkit_math.extraction.marks import boxes, sole_box
from rewardkit_math.extraction.prose import is_prose, without_delimiters
from rewardkit_math.parsing.text import to_latex

__all__ = ["SOURCES", "Answer", "boxes", "candidates", "extract", "is_prose", "sole_box", "without_delimiters"]

SOURCES = ("tag", "boxed", "hash", "bare", "phrase", "math", "number", "text")
r"""The places in which an answer is searched for, most trusted first.

`tag`: the last `<answer>…</answer>`. `boxed`: the last `\boxed{…}`, with its neighbours in "\boxed{1} and \boxed{2}". `hash`: the
line after `####`. `bare`: the whole text, if it is only an answer. `phrase`: after "the answer is", "answer:" or "A:". `math`: the
last formula between dollar signs, `\(…\)` or `\[…\]`. `number`: the last number. `text`: the whole text, if it is short.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was found in a text. It is false if there is none."""

    text: str
    """The answer as written, without the mark around it."""

    source: str
    """Where it was found: one of `SOURCES`, or "" if there is no answer."""

    def __bool__(self) -> bool:
        return bool(self.source)


NOTHING = Answer("", "")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,6});")
_STRUCK = re.compile(r"(?<!\S)~~(?=\S)[^~\n]{1,200}(?<=\S)~~(?!\w)")
"""Text that Markdown strikes out. Within a formula, ``~`` is a space."""
_END = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</s>")


def extract(text: str, sources: tuple[str, ...] = SOURCES) -> Answer:
    """Return the answer from the most trusted source that has one.

    Args:
        text: A completion, or an answer alone.
        sources: The sources to search, most trusted first; names from `SOURCES`.

    Returns:
        The answer; an empty `Answer`, which is false, if no source has one.
    """
    return next(candidates(text, sources), NOTHING)


def candidates(text: str, sources: tuple[str, ...] = SOURCES) -> Iterator[Answer]:
    """Yield every answer that `text` may be giving, most trusted first.

    Args:
        text: A completion, or an answer alone.
        sources: The sources to search, most trusted first; names from `SOURCES`.

    Yields:
        Answers that are not empty and have at most `MAX_ANSWER` characters.
    """
    if "<" in text or "&" in text:
        text = _final_part(text)
    if "~~" in text:
        text = _STRUCK.sub(" ", text)
    may_deny = ("math", "number", "phrase") if text.lstrip()[:1] == "{" else ("math", "number")  # "phrase": of JSON
    for source in _ordered(text, sources):
        searched = prose.without_denied(text) if source in may_deny else text
        for found in _FINDERS[source](searched, sources):
            stripped = found.strip()
            if stripped and len(stripped) <= prose.MAX_ANSWER:
                yield Answer(to_latex(stripped), source)


def _final_part(text: str) -> str:
    """Return the part of a completion that may state its answer: without thinking, up to the end of the turn."""
    if "<" in text:
        if "think>" in text:
            text = _without_thinking(text)
        if "<|" in text or "</s>" in text:
            end = _END.search(text)
            if end and text[: end.start()].strip():
                text = text[: end.start()]
    if "&" in text and ";" in text:
        start = max(0, len(text) - 2 * prose.MAX_ANSWER)
        text = text[:start] + _ENTITY.sub(lambda m: html.unescape(m[0]), text[start:])
    return text


def _without_thinking(text: str) -> str:
    after = text.rfind("</think>")
    if after >= 0:
        return text[after + 8 :] if text[after + 8 :].strip() else text
    opened = text.rfind("<think>")
    if opened < 0:
        return text
    # Thinking that was cut off holds no answer, but a complete answer tag ends thinking that was never closed.
    tagged = text.rfind("<answer>", opened)
    return text[tagged:] if tagged >= 0 and "</answer>" in text[tagged:] else text[:opened]


def _ordered(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    """Yield the sources in their order, but the last number before the last formula if the number comes later in the text."""
    skipped: tuple[str, ...] = ()
    for index, source in enumerate(sources):
        if source in skipped:
            continue
        if (
            source == "bare"
            and "boxed" in sources
            and text.rfind("box") >= 0
            and marks.box_before(text, len(text)) >= 0
        ):
            # The box was empty or cut off: only an explicit statement counts now.
            yield from (s for s in sources[index + 1 :] if s in ("phrase", "hash"))
            return
        if source == "math" and "number" in sources[index + 1 :] and prose.number_behind(text):
            skipped = ("number",)
            yield "number"
        yield source


def _tag(text: str, sources: tuple[str, ...]) -> Iterator[str]:
    """Yield the content of the last `<answer>` tag."""
    if "<" not in text:
        return
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
