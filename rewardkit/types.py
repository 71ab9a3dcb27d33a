"""The nouns of rewardkit: what is scored, what a score is, and what a reward plugin offers.

Frozen dataclasses on the standard library alone, so that a plugin's tests need nothing else. Nothing here reads files,
finds plugins or runs them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args

Message: TypeAlias = Mapping[str, Any]
"""One chat turn: ``role`` and ``content`` (a string, or a list of parts of which those with ``text`` are read)."""

Text: TypeAlias = str | Sequence[Message]
"""A prompt or completion: plain text, or chat messages."""

SpanWeights: TypeAlias = Callable[[Mapping[str, Any], str], Iterable[tuple[int, int, float]]]
"""Of a row and the text of its response: spans of that text as (begin, end, weight)."""

UnscoredKind: TypeAlias = Literal["infra", "timeout", "reference", "input", "plugin"]
Scope: TypeAlias = Literal["rollout", "group"]
Executor: TypeAlias = Literal["inline", "process", "async", "device"]


def message_text(content: Any) -> str:
    """The text of a message's ``content``: itself if a string, else its text parts joined; other parts are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion of one prompt, with the row it came from."""

    prompt: Text
    """What the model was asked: text or chat messages."""
    completion: Text
    """What the model answered: text or chat messages (with tool turns, where there were any)."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row, such as a reference answer."""
    group: str | int | None = None
    """Which prompt this belongs to: rollouts with an equal group are compared with each other."""
    num_tokens: int | None = None
    """Length of the completion in tokens, where the sampler told it."""
    finish_reason: str | None = None
    """``"stop"`` (the model ended by itself), ``"length"`` (cut off), or None (not known)."""

    @property
    def completion_text(self) -> str:
        """The completion as one string: of chat messages, the assistant's texts joined by newlines."""
        completion = self.completion
        if isinstance(completion, str):
            return completion
        return "\n".join(
            message_text(message.get("content")) for message in completion if message.get("role") == "assistant"
        )

    @property
    def prompt_text(self) -> str:
        """The prompt as one string: of chat messages, all their texts joined by newlines."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return prompt
        return "\n".join(message_text(message.get("content")) for message in prompt)


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement of one rollout. A candidate's own failure (wrong, malformed, too slow) is a score too."""

    value: float
    """Finite; higher is better."""
    reason: str = ""
    """Why, in a line that a person reads."""
    metrics: Mapping[str, float] | None = None
    """Further numbers worth recording, such as a count of tests passed."""
    steps: Sequence[float] | None = None
    """One value per step of the completion (a process reward), or None."""
    repeatable: bool = True
    """False where another try might give another score, as of a program that ran out of its time on a busy machine: the cache
    does not keep it."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a score must be a finite number, not {self.value!r}")


@dataclass(frozen=True, slots=True)
class Unscored:
    """No judgement was possible, and it is not the candidate's fault. Never counts as a reward of 0.

    Kinds: ``infra`` (a service, sandbox or worker failed), ``timeout`` (the verifier, not the candidate, ran out of time),
    ``reference`` (the reference answer can't be understood), ``input`` (the row lacks what is needed), ``plugin`` (the
    plugin raised, died, or returned what is no score).
    """

    kind: UnscoredKind
    message: str
    traceback: str | None = None
    """Where a plugin raised, kept for its author."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The component was not run for this rollout, as the configuration asks: its ``when`` or the gate was false."""

    reason: str


Outcome: TypeAlias = Score | Unscored | Skipped
"""What one component says of one rollout."""

RewardResult: TypeAlias = float | int | bool | Score | Unscored
"""What a plugin may return for one rollout."""


class RewardFunction(Protocol):
    """A reward, built and ready: a batch in, as many results out, in the same order.

    An ``async`` reward returns an awaitable of the same. One of scope ``"group"`` is called with one group: all its
    members, or with a condition or gate those that it lets through. An
    attribute ``close()``, where there is one, is called at the end.
    """

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[RewardResult] | Awaitable[Sequence[RewardResult]]:
        """Score a batch."""
        ...


@dataclass(frozen=True, slots=True)
class RewardType:
    """One kind of reward that a plugin offers; YAML makes components from it (``use: NAME, with: {…}``)."""

    name: str
    """What YAML calls it: ``math``, or ``family.member`` such as ``format.tags``."""
    params: type[Any]
    """A dataclass or pydantic model of its parameters; its JSON Schema validates what stands under ``with``."""
    build: Callable[[Any], RewardFunction]
    """Makes the reward from an instance of ``params``. Raises ValueError where parameters contradict each other."""
    needs: tuple[str, ...] | Callable[[Any], Iterable[str]] = ()
    """The fields it reads from a row, or how to tell them from its parameters; a missing column is reported before a run."""
    scope: Scope = "rollout"
    """``"group"``: the reward compares the rollouts of one prompt, so it is handed a whole group at once."""
    executor: Executor = "inline"
    """``inline``: pure and quick · ``process``: in a worker that can be killed · ``async``: waits for a service ·
    ``device``: batches on an accelerator, one at a time."""
    timeout_s: float | None = None
    """Seconds that one rollout may take (``process`` and ``async``); YAML's ``timeout`` overrides it. None: no limit."""
    deterministic: bool = False
    """The same rollout always gets the same score *and* looking it up is cheaper than scoring again: the cache may keep it."""
    identity: Callable[[Any], str | None] | None = None
    """Of a deterministic reward: what else decides its scores, beside the plugin's version and the parameters, such as the
    content of a model or of an image. Asked once, before the first rollout; None: it can't be told, keep nothing."""
    content: Callable[[Any, Rollout], Any] | None = None
    """Of a deterministic reward: what of a rollout decides its score, as JSON data, where that is less than the whole row.
    Rollouts of equal content are scored once."""
    check: Callable[[Any, Rollout], str | None] | None = None
    """Looks at a row without judging it (does the reference parse?); returns what is wrong with it, or None."""
    describe: Callable[[Any, Rollout], str | None] | None = None
    """Returns in a few words what kind of row it is given (the format of its tests, say), or None; ``rewardkit check`` counts the
    rows of each kind."""
    doc: str = ""
    """What it rewards, in Markdown; the first line is the summary."""
    example: str = ""
    """A component in YAML as a user would write it."""
    origin: str = ""
    """``module:name`` of what ``@reward`` decorated: how a worker process finds it again."""

    def __post_init__(self) -> None:
        if not self.name or any(character.isspace() for character in self.name):
            raise ValueError(f"{self.name!r} is no name for a reward: use words joined by dots")
        if self.executor not in get_args(Executor):
            raise ValueError(
                f"reward {self.name!r}: executor must be {', '.join(get_args(Executor))}, not {self.executor!r}"
            )
        if self.scope not in get_args(Scope):
            raise ValueError(f"reward {self.name!r}: scope must be {' or '.join(get_args(Scope))}, not {self.scope!r}")
        if isinstance(self.needs, str):
            raise TypeError(f"reward {self.name!r}: needs must be a list of fields, as in [{self.needs!r}]")

    def needed_fields(self, params: Any) -> tuple[str, ...]:
        """The names of the fields that a component with these parameters reads, without repeats."""
        needs = self.needs(params) if callable(self.needs) else self.needs
        return tuple(dict.fromkeys(needs))


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with its reward and what every component said."""

    rollout: Rollout
    reward: float | None
    """The composite's total; None where it is unscored (0.0 under the policy ``zero``)."""
    outcomes: Mapping[str, Outcome]
    """By component name; every rollout of a run has the same names in the same order."""
    weights: Mapping[str, float]
    """The weight of each component at this step."""
    contributions: Mapping[str, float | None]
    """Weight × scaled and clipped value of each component; None where it gave none or the gate was shut."""
    reward_id: str
    """Identifies the resolved configuration and the plugins' versions."""
    unscored: Unscored | None = None
    """Why there is no verdict: what the first component that counts and could not be scored said."""

    @property
    def status(self) -> Literal["scored", "unscored"]:
        """Whether every component that counts could be scored."""
        return "scored" if self.unscored is None else "unscored"


FindingStatus: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``rewardkit doctor`` tells about this machine."""

    name: str
    """What was looked at, in a few words."""
    status: FindingStatus
    """``note``: absent or weaker than it could be, which hurts only who needs it; ``problem``: something does not work."""
    detail: str = ""
    """What was seen."""
    remedy: str = ""
    """What to do, such as a command; empty where nothing need be done."""

    def __post_init__(self) -> None:
        if self.status not in get_args(FindingStatus):
            raise ValueError(f"a finding's status is one of {', '.join(get_args(FindingStatus))}, not {self.status!r}")
