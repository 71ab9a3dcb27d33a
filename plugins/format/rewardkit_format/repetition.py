"""``format.repetition``: a penalty for repeated text."""

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
"""Only this much of the end of a completion is read, where loops occur, so that memory stays bounded."""

_NONE = verdict(0.0, "no repetition")


@reward(
    "format.repetition",
    example="loops: {use: format.repetition, with: {ngram: 4, allowed: 0.2}, weight: 0.5}",
)
class Repetition:
    """A penalty for repetition, from 0 (none) down to -1.

    With ``words`` or ``characters``, r is the share of n-grams that occurred before, and the value is ``-(r - allowed) /
    (1 - allowed)``; with ``allowed: 0`` that is the penalty of Yeo et al. 2025 (https://arxiv.org/abs/2502.03373,
    appendix C.2; case and white space do not matter), with a weight in place of its maximum. With ``compression``, c is the
    factor by which zlib compresses the text, and the value is ``-(1 - max_ratio / c)``: it finds repeats of any length
    and in any script, but long texts always compress better than short ones. Only the last million characters are read.

    Args:
        measure: ``words`` for scripts that write spaces, ``characters`` for those that do not, or ``compression``.
        ngram: The number of words or characters in one n-gram.
        allowed: The share of repeated n-grams that costs nothing. Ordinary text repeats itself too: worked solutions in
            mathematics commonly repeat 0.1 to 0.3 of their 3-grams.
        max_ratio: The compression factor that costs nothing. Worked solutions of about 1 kB reach 2 to 4.
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
        score_one = self._compression if self._measure == "compression" else self._ngrams
        return [score_one(rollout.completion_text[-MAX_CHARS:]) for rollout in rollouts]

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
