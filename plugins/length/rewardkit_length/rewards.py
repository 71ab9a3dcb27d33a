"""The four rewards. Lengths are whole numbers of tokens (as the sampler counted them) or of characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeAlias

from annotated_types import Ge, Gt

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit_length.measure import check_tokens, choose_unit, not_below, score_by_length

if TYPE_CHECKING:
    from collections.abc import Sequence

Length: TypeAlias = Annotated[int, Ge(0)]
PositiveLength: TypeAlias = Annotated[int, Gt(0)]


@reward(
    "length.penalty",
    check=check_tokens,
    example="brevity: {use: length.penalty, with: {per_token: 0.001, free: 200}, weight: 1.0}",
)
class Penalty:
    """A price on every token (or character): ``-rate * max(0, length - free)``, never below ``floor``.

    From 0 downwards.

    Args:
        per_token: The price of a token. Set this or ``per_char``.
        per_char: The price of a character.
        free: Length that costs nothing, in what is priced.
        floor: The lowest value; null for none.
    """

    def __init__(
        self,
        *,
        per_token: Annotated[float, Gt(0)] | None = None,
        per_char: Annotated[float, Gt(0)] | None = None,
        free: Length = 0,
        floor: float | None = -1.0,
    ) -> None:
        unit = choose_unit("per", per_token, per_char)
        rate = per_token if per_token is not None else per_char
        if not (rate and rate > 0 and math.isfinite(rate)):
            raise ValueError(
                f"the price must be above 0, not {rate}; a negative weight turns the penalty into a reward"
            )
        not_below("free", free, 0)
        if floor is not None and not floor < 0:
            raise ValueError(f"floor must be below 0, not {floor:g}: the penalty goes from 0 downwards")

        def score(length: int) -> Score:
            if length <= free:
                return Score(0.0, f"{length} {unit}, {free} are free")
            value = -rate * (length - free)
            return Score(value if floor is None else max(value, floor), f"{length} {unit}, {length - free} to pay")

        self._score = score_by_length(unit, score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)


@reward(
    "length.overlong",
    check=check_tokens,
    example="overlong: {use: length.overlong, with: {max_tokens: 1024, buffer: 256}, weight: 0.5}",
)
class Overlong:
    """Soft overlong punishment of DAPO (https://arxiv.org/abs/2503.14476, equation 13), from 0 down to -1.

    0 up to ``max - buffer``; from there falling in a line, ``(max - buffer - length) / buffer``, to -1 at ``max``; -1
    beyond.

    Args:
        max_tokens: The longest a completion may be, in tokens. Set this or ``max_chars``.
        max_chars: The same in characters.
        buffer: How long before the maximum the penalty starts, in what the maximum counts. 0 makes it a step.
    """

    def __init__(
        self, *, max_tokens: PositiveLength | None = None, max_chars: PositiveLength | None = None, buffer: Length
    ) -> None:
        unit = choose_unit("max", max_tokens, max_chars)
        maximum = max_tokens if max_tokens is not None else max_chars or 0
        not_below("the maximum", maximum, 1)
        not_below("buffer", buffer, 0)
        if buffer > maximum:
            raise ValueError(f"buffer ({buffer}) is longer than the maximum ({maximum} {unit}) that it ends at")
        start = maximum - buffer

        def score(length: int) -> Score:
            if length <= start:
                return Score(0.0, f"{length} {unit}, free up to {start}")
            value = (start - length) / buffer if length <= maximum else -1.0
            return Score(value, f"{length} {unit}, free up to {start}, at most {maximum}")

        self._score = score_by_length(unit, score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)


@reward(
    "length.cosine",
    check=check_tokens,
    example="""\
correct:     {use: math, with: {reference: answer}, weight: 0}
right_short: {use: length.cosine, with: {max_tokens: 1000, shortest: 1.0, longest: 0.5}, when: "correct == 1"}
wrong_long:  {use: length.cosine, with: {max_tokens: 1000, shortest: -1.0, longest: -0.5}, when: "correct < 1"}""",
)
class Cosine:
    """A value that goes from ``shortest`` to ``longest`` along half a cosine as the completion gets longer.

    ``longest + (shortest - longest) * (1 + cos(π * length / max)) / 2``, and ``beyond`` above ``max``.

    The cosine reward of Yeo et al. 2025 (https://arxiv.org/abs/2502.03373) and of open-r1 is two of these, one for
    right answers and one for wrong ones, told apart by ``when``: any reward can then say what is right. See the
    example.

    Args:
        max_tokens: Where the curve ends, in tokens. Set this or ``max_chars``.
        max_chars: The same in characters.
        shortest: The value at length 0.
        longest: The value at the maximum.
        beyond: The value above the maximum; by default that of ``longest``.
    """

    def __init__(
        self,
        *,
        max_tokens: PositiveLength | None = None,
        max_chars: PositiveLength | None = None,
        shortest: float = 1.0,
        longest: float = 0.0,
        beyond: float | None = None,
    ) -> None:
        unit = choose_unit("max", max_tokens, max_chars)
        maximum = max_tokens if max_tokens is not None else max_chars or 0
        not_below("the maximum", maximum, 1)
        for name, value in (("shortest", shortest), ("longest", longest), ("beyond", beyond)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value}")
        last = longest if beyond is None else beyond

        def score(length: int) -> Score:
            reason = f"{length} of {maximum} {unit}"
            if length > maximum:
                return Score(last, reason)
            return Score(longest + (shortest - longest) * (1 + math.cos(math.pi * length / maximum)) / 2, reason)

        self._score = score_by_length(unit, score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)


@reward(
    "length.target",
    check=check_tokens,
    example="length: {use: length.target, with: {min_tokens: 200, max_tokens: 600, margin: 100}, weight: 0.2}",
)
class Target:
    """1 where the length is within a band, falling in a line to 0 over ``margin`` on either side.

    Args:
        min_tokens: The least that is right, in tokens. Without a minimum the band is open below.
        max_tokens: The most that is right, in tokens. Without a maximum the band is open above.
        min_chars: The least, in characters.
        max_chars: The most, in characters.
        margin: How far outside of the band the value reaches 0, in what the band counts. 0 makes it a step.
    """

    def __init__(
        self,
        *,
        min_tokens: Length | None = None,
        max_tokens: Length | None = None,
        min_chars: Length | None = None,
        max_chars: Length | None = None,
        margin: Length = 0,
    ) -> None:
        in_tokens = min_tokens is not None or max_tokens is not None
        in_chars = min_chars is not None or max_chars is not None
        if in_tokens == in_chars:
            problem = "both tokens and characters" if in_tokens else "neither tokens nor characters"
            raise ValueError(
                f"the band is given in {problem}; set min_tokens, max_tokens or both, or the same in _chars"
            )
        unit, low, high = ("tokens", min_tokens, max_tokens) if in_tokens else ("characters", min_chars, max_chars)
        not_below("the minimum", low, 0)
        not_below("the maximum", high, 0)
        not_below("margin", margin, 0)
        if low is not None and high is not None and low > high:
            raise ValueError(f"the minimum ({low} {unit}) is above the maximum ({high} {unit})")
        least = low or 0
        band = f"{least} to {high}" if high is not None else f"{least} or more"

        def score(length: int) -> Score:
            outside = max(least - length, length - high if high is not None else 0, 0)
            value = 1.0 if outside == 0 else max(0.0, 1 - outside / margin) if margin else 0.0
            return Score(value, f"{length} {unit}, asked for {band}")

        self._score = score_by_length("tokens" if in_tokens else "characters", score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)
