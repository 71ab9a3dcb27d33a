"""The interface of rollout engines, which sample completions from the policy during training.

A plugin offers an engine with the hook ``register_rollout_engines``, and a training configuration names it::

    rollout: {engine: {use: my_engine, with: {url: "http://…"}}}

``rewardkit.testing.RolloutEngineContract`` tests an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings."""

    max_new_tokens: int
    temperature: float = 1.0
    """0 samples greedily: always the most probable token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 sets no limit."""
    stop: tuple[str, ...] = ()
    """A completion ends after any of these strings. The string stays part of the completion."""

    @property
    def is_truncated(self) -> bool:
        """True if top-p or top-k exclude tokens."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request for completions of one prompt."""

    prompt: Sequence[int]
    seeds: Sequence[int]
    """One seed per completion. A completion depends only on the prompt and its seed, not on other requests of the batch."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled completion."""

    tokens: tuple[int, ...]
    """The token ids, including an end-of-sequence token if there is one."""
    logprobs: tuple[float, ...]
    """The log-probability of each token under the engine's weights, at the sampling temperature (1 if it is 0), before top-p and top-k."""
    finish_reason: FinishReason


class RolloutEngine(Protocol):
    """Samples completions from the policy's weights. All calls come from one thread, one at a time.

    A failure is an ``EngineError``. A call that makes no progress must end in one, too, rather than hang.
    """

    tolerance: float
    """The largest mean absolute difference to the trainer's log-probabilities that rounding explains, in nats per token."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample completions.

        Args:
            requests: The prompts, each with one seed per completion.
            sampling: The sampling settings.

        Yields:
            Lists of (index of a request, its completions in the order of the seeds), each as soon as the requests are done.

        Raises:
            EngineError: The engine failed or made no progress.
        """
        ...

    def sync(self) -> None:
        """Load the policy's current weights. Nothing computed with earlier weights, such as a prefix cache, may be used afterwards."""
        ...

    def sleep(self) -> None:
        """Release memory until ``wake`` is called. The next call is ``wake`` or ``close``."""
        ...

    def wake(self) -> None:
        """Get ready for ``sync`` and for sampling after it."""
        ...

    def close(self) -> None:
        """End all processes and release all memory. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """The setup that an engine is built for."""

    model: str
    """The folder or hub name that the policy was loaded from. Its weights are replaced by ``weights`` before sampling."""
    tokenizer: str
    trust_remote_code: bool
    dtype: str
    """The data type of the trained weights: float32, bfloat16 or float16."""
    longest: int
    """The largest number of tokens of a prompt and its completion."""
    batch: int
    """The largest number of completions that are requested at once."""
    sampling: Sampling
    """The sampling settings of the run. Evaluations sample greedily, without top-p and top-k."""
    eos_ids: frozenset[int]
    """The tokens that end a completion. No other token does."""
    weights: Callable[[], Iterator[tuple[str, Any]]]
    """A function that returns all current weights as (name, tensor), with the names of the model's files. Adapters are merged, and tied
    weights appear under each of their names. The tensors belong to the trainer: copy them, and don't change them."""
    policy: Any
    """The model with its tokenizer (``rewardkit.train.models.policy.Policy``), for engines in the trainer's process."""


@dataclass(frozen=True, slots=True)
class RolloutEngineType:
    """A rollout engine that a plugin offers with ``register_rollout_engines``."""

    name: str
    build: Callable[[Any, EngineSetup], RolloutEngine]
    """Builds the engine from an instance of ``params`` and the setup, after the policy has been loaded."""
    params: type[Any]
    """A dataclass or pydantic model of the parameters under ``with``."""
    doc: str = ""
    modules: Mapping[str, str] | None = None
    """The modules that it needs, each with the command that installs it. They are checked before anything is loaded."""
    shares_weights: bool = False
    """The engine samples from the policy's own tensors, so no weights need to be copied."""
    refuse: Callable[[Any, Sampling], str] | None = None
    """A function of the parameters and the sampling settings, called when a configuration is read. It returns a problem, if any."""
