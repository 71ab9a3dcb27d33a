"""``format.repetition``: text that says the same again and again."""

from __future__ import annotations

import itertools
import zlib
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Lt

from rewardkit import Rollout, Score, reward
from rewardkit_format.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARS = 1_000_000
"""Of a longer completion its end is judged, where loops are; so that memory stays bounded."""

_NONE = verdict(0.0, "no repetition")


@reward(
    "format.repetition",
    example="loops: {use: format.repetition, with: {ngram: 4, allowed: 0.2}, weight: 0.5}",
)
class Repetition:
    """A penalty for repetition, from 0 (none) down to -1.

    Measured by ``words`` or ``characters``, it is the share r of n-grams that already stood before, ``-(r - allowed) /
    (1 - allowed)``; with ``allowed: 0`` that is the penalty of Yeo et al. 2025 (https://arxiv.org/abs/2502.03373,
    appendix C.2; case and white space do not matter) with a weight in place of its maximum. Measured by
    ``compression``, c is how many times smaller zlib makes the text, ``-(1 - max_ratio / c)``: it finds repeats of
    any length and in any script, yet long texts always compress better than short ones. The last million characters
    are judged.

    Args:
        measure: ``words`` for scripts that write spaces, ``characters`` for those that do not, or ``compression``.
        ngram: Words or characters in one n-gram.
        allowed: The share of repeated n-grams that costs nothing. Honest work repeats itself too: 0.1 to 0.3 of the
            3-grams of a worked solution in mathematics is common.
        max_ratio: How many times smaller compression may make a text at no cost. Worked solutions of about 1 kB: 2 to 4.
    """

    def __init__(
        self,
        *,
        measure: Literal["words", "characters", "compression"] = "words",
        ngram: Annotated[int, Ge(1)] = 3,
        allowed: Annotated[float, Ge(0), Lt(1)] = 0.0,
        max_ratio: Annotated[float, Gt(1)] = 4.0,
    ) -> None:
        if ngram < 1:
            raise ValueError(f"ngram must be at least 1, not {ngram}")
        if not 0 <= allowed < 1:
            raise ValueError(f"allowed must be from 0 to below 1, not {allowed}")
        if not max_ratio > 1:
            raise ValueError(f"max_ratio must be above 1, not {max_ratio}")
        self._measure, self._ngram, self._allowed, self._max_ratio = measure, ngram, allowed, max_ratio

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        judge = self._compression if self._measure == "compression" else self._ngrams
        return [judge(rollout.completion_text[-MAX_CHARS:]) for rollout in rollouts]

    def _ngrams(self, text: str) -> Score:
        units = text.lower().split()
        if self._measure == "characters":
            joined = " ".join(units)
            total = len(joined) - self._ngram + 1
            distinct = len({joined[start : start + self._ngram] for start in range(total)})
        else:
            total = len(units) - self._ngram + 1
            distinct = len(
                set(zip(*(itertools.islice(units, start, None) for start in range(self._ngram)), strict=False))
            )
        if total <= 0 or distinct == total:
            return _NONE
        share = 1 - distinct / total
        value = min(0.0, (self._allowed - share) / (1 - self._allowed))
        return Score(value, f"{share:.0%} of {self._ngram}-grams are repeated")

    def _compression(self, text: str) -> Score:
        raw = text.encode("utf-8", "surrogatepass")
        if not raw:
            return _NONE
        ratio = len(raw) / len(zlib.compress(raw))
        return Score(min(0.0, self._max_ratio / ratio - 1), f"compresses {ratio:.1f} times")
