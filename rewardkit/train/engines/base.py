"""The protocol of rollout engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn."""

    max_new_tokens: int
    temperature: float = 1.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    stop: tuple[str, ...] = ()
    """A completion ends after any of these texts, which stay part of it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how many completions of it are wanted."""

    prompt: Sequence[int]
    seeds: Sequence[int]
    """One per completion: a completion depends on the prompt and its seed alone, not on what is sampled beside it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled."""

    tokens: tuple[int, ...]
    """The end-of-sequence token, where there is one, included."""
    logprobs: tuple[float, ...]
    """Of each token under the sampler's weights, at the temperature, before top-p and top-k."""
    finish_reason: FinishReason


class RolloutEngine(Protocol):
    """Samples completions from the policy's weights."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample; yields some requests' completions as soon as they are done: (index of the request, completions by seed)."""
        ...

    def sync(self) -> None:
        """Take over the policy's weights. Raises EngineError where that fails or takes too long."""
        ...

    def sleep(self) -> None:
        """Give back memory until ``wake``."""
        ...

    def wake(self) -> None:
        """Be ready to sample again."""
        ...

    def close(self) -> None:
        """Sampling is over."""
        ...
