r"""``format.boxed``: a final answer in ``\boxed{…}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rewardkit import Rollout, Score, reward
from rewardkit_format.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMAND = "\\boxed"
_LONGER_COMMAND = re.compile(r"\\boxed[A-Za-z@]")
_OPENING = re.compile(r"\\boxed\s*\{")
# The common case: an answer without inner braces and without escapes.
_SIMPLE = re.compile(r"\\boxed\{[^{}\\]*?[^{}\\\s][^{}\\]*\}")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_NOT_BLANK = re.compile(r"\S")

_RIGHT = verdict(1.0, "the answer is boxed", "\\boxed{...}")
_MISSING = verdict(0.0, "there is no \\boxed answer")
_REPEATED = verdict(0.0, "\\boxed occurs more than once")
_BARE = verdict(0.0, "\\boxed is not followed by {")
_EMPTY = verdict(0.0, "\\boxed{} is empty")
_UNBALANCED = verdict(0.0, "the braces of \\boxed{ are not balanced")


@reward("format.boxed", example="boxed: {use: format.boxed, weight: 0.1}")
class Boxed:
    r"""1 if the completion has an answer in ``\boxed{…}`` that is not empty and has balanced braces, else 0.

    As in LaTeX, ``\{`` and ``\}`` do not count as braces.

    Args:
        once: Require exactly one ``\boxed``. Otherwise the last one counts, as in most graders.
    """

    def __init__(self, *, once: bool = True) -> None:
        self._once = once

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        score_one = self._score_one
        return [score_one(rollout.completion_text) for rollout in rollouts]

    def _score_one(self, text: str) -> Score:
        start = text.rfind(_COMMAND)
        while start >= 0 and _LONGER_COMMAND.match(text, start):  # \boxedminipage and the like
            start = text.rfind(_COMMAND, 0, start)
        if start < 0:
            return _MISSING
        if self._once:
            first = text.find(_COMMAND)
            while first < start and _LONGER_COMMAND.match(text, first):
                first = text.find(_COMMAND, first + 1)
            if first < start:
                return _REPEATED
        if _SIMPLE.match(text, start):
            return _RIGHT
        opening = _OPENING.match(text, start)
        if opening is None:
            return _BARE
        depth, inside = 1, opening.end()
        for mark in _BRACES.finditer(text, inside):
            if mark[0] == "{":
                depth += 1
            elif mark[0] == "}":
                depth -= 1
                if depth == 0:
                    return _RIGHT if _NOT_BLANK.search(text, inside, mark.start()) else _EMPTY
        return _UNBALANCED
