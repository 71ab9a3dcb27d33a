"""The interface of rollout engines, which sample completions from the policy during training.

A plugin offers an engine with the hook ``register_rollout_engines``, and a training configuration names it::

    rollout: {engine: {use: my_engine, with: {url: "http://…"}}}

``rewardkit.testing.RolloutEngineContract`` tests an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings."""

    max_new_tokens: int
    """The largest number of tokens of a completion."""
    temperature: float = 1.0
    """0 samples greedily: always the most probable token."""
    top_p: float = 1.0
    """Sample from the most probable tokens whose probabilities add up to this. 1 sets no limit."""
    top_k: int = 0
    """Sample from this number of most probable tokens. 0 sets no limit."""
    stop: tuple[str, ...] = ()
    """A completion ends after any of these strings, which may be or contain special tokens. The string stays part of the completion."""

    @property
    def is_truncated(self) -> bool:
        """True if top-p or top-k exclude tokens."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request for completions of one prompt."""

    prompt: Sequence[int]
    """The token ids of the prompt."""
    seeds: Sequence[int]
    """One seed per completion. A completion depends only on the prompt and its seed, not on other requests of the batch."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One message of a completion with several turns, such as an answer of the policy or the output of a tool."""

    role: str
    """The role of the chat message: ``assistant``, ``tool``, ``user``."""
    start: int
    """The index of its first token in the completion."""
    end: int
    """The index after its last token."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the chat message, such as ``name`` or ``tool_call_id``."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled completion: what follows the prompt, including tokens that the policy did not write."""

    tokens: tuple[int, ...]
    """The token ids, including an end-of-sequence token if there is one."""
    logprobs: tuple[float, ...]
    """The log-probability of each token under the engine's weights, at the sampling temperature (1 if it is 0), before top-p and top-k.
    Values of tokens that the policy did not write are ignored."""
    finish_reason: FinishReason
    """``"stop"`` if an end-of-sequence token or a stop string ended the completion, ``"length"`` if it reached the token limit."""
    mask: tuple[bool, ...] | None = None
    """True for tokens that the policy wrote, False for others, such as the output of a tool. Only the former are trained on, and only they
    count in metrics. None: the policy wrote all tokens."""
    versions: tuple[int, ...] | None = None
    """The version of the weights that wrote each token: the number of training steps that they had finished. None: the present version."""
    segments: tuple[Segment, ...] = ()
    """The messages of a completion with several turns, in order. The reward gets them as chat messages. Empty: one turn of the policy."""

    @property
    def written(self) -> tuple[int, ...]:
        """The tokens that the policy wrote."""
        if self.mask is None:
            return self.tokens
        return tuple(token for token, is_written in zip(self.tokens, self.mask, strict=True) if is_written)

    def problem(self) -> str | None:
        """Return what is inconsistent about the completion, or None."""
        parts = {"log-probs": self.logprobs, "mask values": self.mask, "versions": self.versions}
        for name, values in parts.items():
            if values is not None and len(values) != len(self.tokens):
                return f"{len(self.tokens)} tokens with {len(values)} {name}"
        end = 0
        for segment in self.segments:
            if not end <= segment.start <= segment.end <= len(self.tokens):
                return f"a segment from token {segment.start} to {segment.end}, after token {end} of {len(self.tokens)}"
            end = segment.end
        return None


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
    """The folder or hub name of the tokenizer."""
    trust_remote_code: bool
    """True if the code of a hub repository may be executed."""
    dtype: str
    """The data type of the weights that ``weights`` returns: float32 or bfloat16 (``model.dtype``). The trained weights are float32."""
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
    """The name under ``rollout.engine.use``."""
    build: Callable[[Any, EngineSetup], RolloutEngine]
    """Builds the engine from an instance of ``params`` and the setup, after the policy has been loaded."""
    params: type[Any]
    """A dataclass or pydantic model of the parameters under ``with``."""
    doc: str = ""
    """The documentation, in Markdown. The first line is the summary."""
    modules: Mapping[str, str] | None = None
    """The modules that it needs, each with the command that installs it. They are checked before anything is loaded."""
    versions: Mapping[str, str] | None = None
    """The supported versions of these modules, such as ``>=0.32,<0.34``. Other versions are refused before anything is loaded."""
    shares_weights: bool = False
    """The engine samples from the policy's own tensors, so no weights need to be copied."""
    refuse: Callable[[Any, Sampling], str] | None = None
    """A function of the parameters and the sampling settings, called when a configuration is read. It returns a problem, if any."""
