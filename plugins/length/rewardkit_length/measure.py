"""The length of a completion, and rewards that are functions of it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rewardkit import Rollout, Score, Unscored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Unit: TypeAlias = Literal["tokens", "characters"]

NO_TOKENS = Unscored(
    "input",
    "the row does not say how many tokens the completion has: add a column num_tokens, or set limits in characters "
    "(…_chars instead of …_tokens)",
)

CACHED_LENGTHS = 16_384
"""The number of lengths whose score is remembered."""


def score_by_length(
    unit: Unit, score: Callable[[int], Score]
) -> Callable[[Sequence[Rollout]], Sequence[Score | Unscored]]:
    """Return a function that scores every rollout of a batch by its length alone.

    Args:
        unit: What is counted.
        score: The score of a length.
    """
    score = functools.lru_cache(maxsize=CACHED_LENGTHS)(score)

    def by_tokens(rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        return [NO_TOKENS if rollout.num_tokens is None else score(rollout.num_tokens) for rollout in rollouts]

    def by_characters(rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        return [score(len(rollout.completion_text)) for rollout in rollouts]

    return by_tokens if unit == "tokens" else by_characters


def counts_tokens(params: Any) -> bool:
    """Return True if the parameters set a length in tokens."""
    return any(getattr(params, name, None) is not None for name in ("per_token", "max_tokens", "min_tokens"))


def choose_unit(name: str, tokens: object, chars: object) -> Unit:
    """Return the unit of the one parameter that is set, ``max_tokens`` or ``max_chars`` for ``name="max"``.

    Raises:
        ValueError: Both are set, or neither.
    """
    token_name, char_name = (f"{name}_tokens", f"{name}_chars") if name != "per" else ("per_token", "per_char")
    if (tokens is None) == (chars is None):
        problem = "are both set" if tokens is not None else "are both missing"
        raise ValueError(f"{token_name} and {char_name} {problem}; set one of them; its name says what is counted")
    return "tokens" if chars is None else "characters"


def not_below(name: str, value: float | None, minimum: float) -> None:
    """Check that a parameter is at least ``minimum``.

    Raises:
        ValueError: It is below.
    """
    if value is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, not {value:g}")
