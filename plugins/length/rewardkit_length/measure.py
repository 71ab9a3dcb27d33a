"""How long a completion is: what is counted, and a reward made from a function of the count."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rewardkit import Rollout, Score, Unscored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Unit: TypeAlias = Literal["tokens", "characters"]

NO_TOKENS = Unscored(
    "input",
    "the row does not say how many tokens the completion has; give it a column num_tokens, or set limits in characters "
    "(…_chars instead of …_tokens)",
)

CACHED_LENGTHS = 16_384
"""Completions of equal length get the same score, so each is worked out once."""


def score_by_length(
    unit: Unit, score: Callable[[int], Score]
) -> Callable[[Sequence[Rollout]], Sequence[Score | Unscored]]:
    """A batch function that scores every rollout by its length alone."""
    score = functools.lru_cache(maxsize=CACHED_LENGTHS)(score)

    def by_tokens(rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        return [NO_TOKENS if rollout.num_tokens is None else score(rollout.num_tokens) for rollout in rollouts]

    def by_characters(rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        return [score(len(rollout.completion_text)) for rollout in rollouts]

    return by_tokens if unit == "tokens" else by_characters


def check_tokens(params: Any, rollout: Rollout) -> str | None:
    """What is wrong with a row, before anything is scored: that tokens are asked for, and it does not tell them."""
    in_tokens = any(getattr(params, name, None) is not None for name in ("per_token", "max_tokens", "min_tokens"))
    return NO_TOKENS.message if in_tokens and rollout.num_tokens is None else None


def choose_unit(name: str, tokens: object, chars: object) -> Unit:
    """Which of ``max_tokens`` and ``max_chars`` (for ``name="max"``) is set.

    Raises:
        ValueError: Both are, or none.
    """
    token_name, char_name = (f"{name}_tokens", f"{name}_chars") if name != "per" else ("per_token", "per_char")
    if (tokens is None) == (chars is None):
        problem = "are both set" if tokens is not None else "are both missing"
        raise ValueError(f"{token_name} and {char_name} {problem}; set one of them, which also says what is counted")
    return "tokens" if chars is None else "characters"


def not_below(name: str, value: float | None, minimum: float) -> None:
    """Raises ValueError if ``value`` is below ``minimum``."""
    if value is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, not {value:g}")
