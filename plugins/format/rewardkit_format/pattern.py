"""``format.regex``: a regular expression of the user."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Literal

import regex
from annotated_types import Ge, Gt, MinLen

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit_format.verdicts import excerpt, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


@reward(
    "format.regex",
    example=r"steps: {use: format.regex, with: {pattern: '(?m)^Step \d+:', count: 3}, weight: 0.1}",
)
class Regex:
    r"""1 if the completion matches (or, with ``forbid``, does not match) a regular expression, else 0.

    With ``count``, the value is the share of the required matches. Patterns are those of the ``regex`` module, which
    accepts what ``re`` accepts and more, such as ``\p{Han}``; flags are part of the pattern, such as ``(?i)`` and ``(?s)``.
    A rollout on which the pattern takes too long is unscored, so that no completion can hang the run.

    Args:
        pattern: The regular expression.
        match: ``search`` finds it anywhere; ``fullmatch`` requires that it covers the whole completion.
        count: The number of matches without overlap that give the full value; only with ``search``.
        forbid: Give 1 if the pattern does not match.
        timeout_s: Seconds of matching after which a rollout is left unscored.
    """

    def __init__(
        self,
        *,
        pattern: Annotated[str, MinLen(1)],
        match: Literal["search", "fullmatch"] = "search",
        count: Annotated[int, Ge(1)] = 1,
        forbid: bool = False,
        timeout_s: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"pattern {pattern!r} is not a regular expression: {error}") from error
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if count > 1 and (match == "fullmatch" or forbid):
            raise ValueError("count works only with match: search and without forbid")
        self._find = self._pattern.search if match == "search" else self._pattern.fullmatch
        self._covers_all = match == "fullmatch"
        self._count, self._forbid, self._timeout_s = count, forbid, timeout_s
        self._timeout = Unscored(
            "timeout",
            f"the pattern took more than {timeout_s:g} s on this completion; make it simpler or raise timeout_s",
        )

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        score_one = self._score_count if self._count > 1 else self._score_one
        results: list[Score | Unscored] = []
        for rollout in rollouts:
            try:
                results.append(score_one(rollout.completion_text))
            except TimeoutError:
                results.append(self._timeout)
        return results

    def _score_one(self, text: str) -> Score:
        found = self._find(text, timeout=self._timeout_s)
        if found is None:
            return verdict(float(self._forbid), "the pattern does not match")
        value = float(not self._forbid)
        if self._covers_all:
            return verdict(value, "the pattern matches")
        return Score(value, "the pattern matches", extracted=excerpt(found[0]))

    def _score_count(self, text: str) -> Score:
        matches = self._pattern.finditer(text, timeout=self._timeout_s)
        found = list(itertools.islice(matches, self._count))
        reason = f"{len(found)} of {self._count} matches"
        if not found:
            return verdict(0.0, reason)
        return Score(len(found) / self._count, reason, extracted=excerpt(found[-1][0]))
