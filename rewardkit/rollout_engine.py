"""What a rollout engine is: it samples completions from the policy that is being trained.

This is the contract for who writes one; the standard library is all that it needs. An engine takes part through the hook
``register_rollout_engines``, and a training configuration names it::

    rollout: {engine: {use: my_engine, with: {url: "http://…"}}}

``rewardkit.testing.RolloutEngineContract`` tests whether an engine keeps to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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

    @property
    def is_truncated(self) -> bool:
        """Whether unlikely tokens are never drawn."""
        return self.top_p < 1 or self.top_k > 0


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
    """Of each token under the sampler's weights, at the temperature (at 1 where it is 0), before top-p and top-k."""
    finish_reason: FinishReason


class RolloutEngine(Protocol):
    """Samples completions from the policy's weights. Every call comes from one thread, one at a time.

    Whatever goes wrong is an ``EngineError``; a call that gets nowhere has to end in one, too, rather than hang.
    """

    tolerance: float
    """How far its log-probs may be from the trainer's by rounding alone: mean absolute difference per token, in nats."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample; yields some requests' completions as soon as they are done: (index of the request, completions by seed)."""
        ...

    def sync(self) -> None:
        """Take over the policy's weights; nothing computed with others may be used from then on (a prefix cache, for one)."""
        ...

    def sleep(self) -> None:
        """Give back memory until ``wake``. The next call is ``wake`` or ``close``."""
        ...

    def wake(self) -> None:
        """Be ready for ``sync``, and after it to sample again."""
        ...

    def close(self) -> None:
        """Sampling is over: leave no process and no memory behind. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is made for."""

    model: str
    """The folder or hub name that the policy was loaded from. Its weights are replaced by ``weights`` before sampling."""
    tokenizer: str
    trust_remote_code: bool
    dtype: str
    """Type of the trained weights: float32, bfloat16 or float16."""
    longest: int
    """Most tokens of a prompt with its completion."""
    batch: int
    """Most completions at once that the configuration wants."""
    sampling: Sampling
    """Of the run's rollouts. Evaluations sample greedily, without top-p and top-k."""
    eos_ids: frozenset[int]
    """Each of these tokens ends a completion; no other does."""
    weights: Callable[[], Iterator[tuple[str, Any]]]
    """All weights as they are now, as (name, tensor): under the names that the model's files have, adapters merged in, tied
    weights under each of their names. Tensors belong to the trainer: copy them, don't change them."""
    policy: Any
    """The model itself with its tokenizer, ``rewardkit.train.models.policy.Policy``; for engines that live in this process."""


@dataclass(frozen=True, slots=True)
class RolloutEngineType:
    """A kind of engine, as ``register_rollout_engines`` offers it."""

    name: str
    build: Callable[[Any, EngineSetup], RolloutEngine]
    """Called with the parameters (an instance of ``params``) and the setup, after the policy has been loaded."""
    params: type[Any]
    """A dataclass or pydantic model: what may stand under ``with`` in YAML."""
    doc: str = ""
    modules: Mapping[str, str] | None = None
    """What must be importable, with how to install it; looked at before anything is loaded."""
    shares_weights: bool = False
    """Whether it samples with the policy's own tensors, so that there is nothing to take over."""
    refuse: Callable[[Any, Sampling], str] | None = None
    """Called with the parameters and the rollouts' sampling when a configuration is read: what is wrong, or an empty text."""
