"""Where a completion holds what a reward extracted from it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.types import message_text

_QUOTED = re.compile(r"""prediction ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
"""The form in which rewards quote the extracted answer in their reason: as a text of Python."""


_BETWEEN = "..."
"""Stands for the extracted text where a component tells the marks around it."""
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text."""

    text: str
    components: tuple[str, ...] = ()
    """The components that extracted it; empty for the rest of the text."""


def extracted_by(components: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the texts that each component of a scored row extracted, last-named first.

    A component tells them in ``extracted``, a text or a list of texts. A text may also be the marks around what was extracted, such as
    ``<answer>...</answer>``. A component that tells nothing may quote an answer in its reason.

    Args:
        components: The column ``components`` of a scored row.
    """
    found: dict[str, list[str]] = {}
    for name, part in components.items():
        if not isinstance(part, Mapping):
            continue
        told = part.get("extracted")
        texts = [told] if isinstance(told, str) else list(told or ())
        if not texts:
            texts = [_unquoted(match[1]) for match in _QUOTED.finditer(str(part.get("reason") or ""))]
        if texts := [text for text in texts if isinstance(text, str) and text.strip("\n")]:
            found[name] = [text.strip("\n") for text in texts]
    return found


def _unquoted(quoted: str) -> str:
    """Return a quoted text without its quotes and escapes."""
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError):
        return quoted[1:-1]


def find(text: str, wanted: str) -> tuple[int, int] | None:
    r"""Return where the last occurrence of an extracted text starts and ends, or None if there is none.

    Args:
        text: A completion, or the content of one message.
        wanted: The text, or the marks around it with ``...`` between them. White space inside the marks is left out. Where the marks end
            and start with braces, as in ``\boxed{...}``, the braces inside are balanced.
    """
    start = text.rfind(wanted)
    if start >= 0:
        return start, start + len(wanted)
    opening, _, closing = wanted.partition(_BETWEEN)
    if not opening or not closing or _BETWEEN in closing:
        return None
    if opening.endswith("{") and closing == "}":
        start = text.rfind(opening) + len(opening)
        end = -1 if start < len(opening) else _closing_brace(text, start)
    else:
        end = text.rfind(closing)
        start = text.rfind(opening, 0, max(end, 0)) + len(opening)
        end = -1 if start < len(opening) else end
    inside = text[start : max(end, start)]
    if not inside.strip():
        return None
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


def _closing_brace(text: str, start: int) -> int:
    """Return where the brace is closed that is open before ``start``; -1 if it never is. Braces after a backslash do not count."""
    depth = 1
    for brace in _BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.start()
    return -1


def mark(text: str, extracted: Mapping[str, Sequence[str]]) -> list[Piece]:
    """Split a text into pieces: what components extracted, and the rest.

    The last occurrence of an extracted text is marked, since answers come last. Where two components extracted the same, the piece names
    both; where their texts overlap otherwise, the longer one is marked.

    Args:
        text: A completion, or the content of one message.
        extracted: The texts by component, as `extracted_by` returned them.
    """
    spans: dict[tuple[int, int], list[str]] = {}
    for name, texts in extracted.items():
        for wanted in texts:
            if (span := find(text, wanted)) is not None:
                names = spans.setdefault(span, [])
                if name not in names:
                    names.append(name)
    chosen: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
        if all(end <= other_start or start >= other_end for other_start, other_end in chosen):
            chosen.append((start, end))
    pieces, done = [], 0
    for start, end in sorted(chosen):
        pieces += [Piece(text[done:start]), Piece(text[start:end], tuple(spans[start, end]))]
        done = end
    return [piece for piece in [*pieces, Piece(text[done:])] if piece.text]


def marked_messages(completion: Any, components: Mapping[str, Any]) -> list[tuple[str, list[Piece]]]:
    """Return the messages of a completion as (role, pieces); of a text, one message without a role.

    What was extracted is marked in the last message of the assistant that holds it.

    Args:
        completion: A text, or chat messages.
        components: The column ``components`` of the scored row.
    """
    extracted = extracted_by(components)
    if not isinstance(completion, Sequence) or isinstance(completion, str):
        return [("", mark(str(completion or ""), extracted))]
    messages = [
        (str(message.get("role") or ""), message_text(message.get("content")))
        if isinstance(message, Mapping)
        else ("", str(message))
        for message in completion
    ]
    left, shown = dict(extracted), []
    for role, text in reversed(messages):
        here = {name: texts for name, texts in left.items() if any(find(text, part) for part in texts)}
        use = here if role in {"assistant", ""} else {}
        left = {name: texts for name, texts in left.items() if name not in use}
        shown.append((role, mark(text, use)))
    return shown[::-1]
