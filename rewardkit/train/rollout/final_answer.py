"""The final answer of a completion, as a pattern finds it."""

from __future__ import annotations

import re


def final_answer(text: str, pattern: str) -> str | None:
    """Return the last match of a pattern in a text (its first group, if it has one), or None."""
    matches = list(re.finditer(pattern, text))
    return (matches[-1][1] if matches[-1].re.groups else matches[-1][0]) if matches else None
