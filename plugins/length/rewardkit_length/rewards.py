"""The four rewards. Lengths are whole numbers of tokens (as the sampler counted them) or characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeAlias

from annotated_types import Ge, Gt

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit_length.measure import choose_unit, counts_tokens, not_below, score_by_length

if TYPE_CHECKING:
    from collections.abc import Sequence

Length: TypeAlias = Annotated[int, Ge(0)]
PositiveLength: TypeAlias = Annotated[int, Gt(0)]


@reward(
    "length.penalty",
    needs_tokens=counts_tokens,
    example="brevity: {use: length.penalty, with: {per_token: 0.001, free: 200}, weight: 1.0}",
)
class Penalty:
    """A penalty for every token (or character) beyond ``free``: ``-rate * max(0, length - free)``, at least ``floor``.

    Args:
        per_token: The penalty of a token. Set this or ``per_char``.
        per_char: The penalty of a character.
        free: The length without penalty, in the same unit.
        floor: The lowest value; null for no limit.
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
                f"the penalty must be above 0, not {rate}; to reward length, give the component a negative weight"
            )
        not_below("free", free, 0)
        if floor is not None and not floor < 0:
            raise ValueError(f"floor must be below 0, not {floor:g}: the value is never above 0")

        def score(length: int) -> Score:
            if length <= free:
                return Score(0.0, f"{length} {unit}, {free} are free")
            value = -rate * (length - free)
            return Score(value if floor is None else max(value, floor), f"{length} {unit}, {length - free} beyond")

        self._score = score_by_length(unit, score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)


@reward(
    "length.overlong",
    needs_tokens=counts_tokens,
    example="overlong: {use: length.overlong, with: {max_tokens: 1024, buffer: 256}, weight: 0.5}",
)
class Overlong:
    """The soft overlong punishment of DAPO (https://arxiv.org/abs/2503.14476, equation 13), from 0 down to -1.

    The value is 0 up to ``max - buffer``, falls linearly as ``(max - buffer - length) / buffer`` to -1 at ``max``, and is
    -1 beyond.

    Args:
        max_tokens: The maximum length in tokens. Set this or ``max_chars``.
        max_chars: The maximum length in characters.
        buffer: The length before the maximum at which the penalty starts, in the same unit. With 0 it is a step.
    """

    def __init__(
        self, *, max_tokens: PositiveLength | None = None, max_chars: PositiveLength | None = None, buffer: Length
    ) -> None:
        unit = choose_unit("max", max_tokens, max_chars)
        maximum = max_tokens if max_tokens is not None else max_chars or 0
        not_below("the maximum", maximum, 1)
        not_below("buffer", buffer, 0)
        if buffer > maximum:
            raise ValueError(f"buffer ({buffer}) is longer than the maximum ({maximum} {unit})")
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
    needs_tokens=counts_tokens,
    example="""\
correct:     {use: math, with: {reference: answer}, weight: 0}
right_short: {use: length.cosine, with: {max_tokens: 1000, shortest: 1.0, longest: 0.5}, when: "correct == 1"}
wrong_long:  {use: length.cosine, with: {max_tokens: 1000, shortest: -1.0, longest: -0.5}, when: "correct < 1"}""",
)
class Cosine:
    """Half a cosine from ``shortest`` (at length 0) to ``longest`` (at the maximum).

    The value is ``longest + (shortest - longest) * (1 + cos(π * length / max)) / 2``, and ``beyond`` above ``max``.

    The cosine reward of Yeo et al. 2025 (https://arxiv.org/abs/2502.03373) and of open-r1 is two of these components, one
    for correct and one for wrong answers, with ``when`` to choose between them, so that any reward can decide what is
    correct. See the example.

    Args:
        max_tokens: The length in tokens at which the curve ends. Set this or ``max_chars``.
        max_chars: The length in characters at which the curve ends.
        shortest: The value at length 0.
        longest: The value at the maximum.
        beyond: The value above the maximum; by default ``longest``.
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
    needs_tokens=counts_tokens,
    example="length: {use: length.target, with: {min_tokens: 200, max_tokens: 600, margin: 100}, weight: 0.2}",
)
class Target:
    """1 if the length is within a band, falling linearly to 0 over ``margin`` on either side.

    Args:
        min_tokens: The lower end of the band in tokens. Without it the band has no lower end.
        max_tokens: The upper end of the band in tokens. Without it the band has no upper end.
        min_chars: The lower end in characters.
        max_chars: The upper end in characters.
        margin: The distance from the band at which the value reaches 0, in the same unit. With 0 it is a step.
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
            return Score(value, f"{length} {unit}, the band is {band}")

        self._score = score_by_length("tokens" if in_tokens else "characters", score)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        return self._score(rollouts)
