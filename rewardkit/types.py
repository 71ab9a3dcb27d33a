"""The types of rewardkit: rollouts, scores, and what a reward plugin offers.

They are frozen dataclasses that need only the standard library, so a plugin's tests need nothing else. Nothing here reads
files, finds plugins or runs them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args

from rewardkit.read_only import ReadOnlyDict, has_value, read_only, read_only_fields

Message: TypeAlias = Mapping[str, Any]
"""One chat turn: ``role`` and ``content``, which is a string or a list of parts. Only parts with ``text`` are read."""

Text: TypeAlias = str | Sequence[Message]
"""A prompt or completion: plain text, or chat messages."""

SpanWeights: TypeAlias = Callable[[Mapping[str, Any], str], Iterable[tuple[int, int, float]]]
"""A function of a row and the text of its response. It returns spans of the text as (begin, end, weight)."""

UnscoredKind: TypeAlias = Literal["infra", "timeout", "reference", "input", "plugin"]
RETRYABLE: frozenset[str] = frozenset({"infra", "timeout"})
"""The kinds of failures that another try may mend."""
OutcomeStatus: TypeAlias = Literal["scored", "unscored", "not_applicable", "skipped"]
Scope: TypeAlias = Literal["rollout", "group"]
Executor: TypeAlias = Literal["inline", "process", "async", "device"]


def message_text(content: Any) -> str:
    """Return the text of a message's ``content``: a string unchanged, or the joined text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion of one prompt, with the row that it came from.

    A rollout is read-only at every level: lists and dicts in it are copied when it is made, and changing them raises TypeError.
    NaN, ``pandas.NA`` and NaT in ``fields`` become None, and NumPy scalars Python's numbers and texts.
    """

    prompt: Text
    """The prompt: text or chat messages."""
    completion: Text
    """The completion: text or chat messages, including tool turns."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All other columns of the row, such as a reference answer."""
    group: str | int | None = None
    """The group of the rollout. Rollouts of one group answer the same prompt and are compared with each other."""
    num_tokens: int | None = None
    """The length of the completion in tokens; None if unknown."""
    finish_reason: str | None = None
    """``"stop"`` (the model ended the completion), ``"length"`` (it was truncated), or None (unknown)."""

    def __post_init__(self) -> None:
        if type(self.fields) is not ReadOnlyDict:
            object.__setattr__(self, "fields", read_only_fields(self.fields))
        if type(self.completion) is not str:
            object.__setattr__(self, "completion", read_only(self.completion))
        if type(self.prompt) is not str:
            object.__setattr__(self, "prompt", read_only(self.prompt))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Rollout:
        """Make a rollout from a row of a data set.

        Args:
            row: ``prompt`` and ``completion`` (text, or lists of chat messages), and, if known, ``group``, ``num_tokens`` and
                ``finish_reason``. All other columns become fields.

        Raises:
            TypeError: It is not a mapping, or a column has the wrong type.
            ValueError: ``prompt`` or ``completion`` is missing.
        """
        if not isinstance(row, Mapping):
            raise TypeError(f"a row must be a mapping, not a {type(row).__name__}")
        fields = dict(row)
        for name in ("prompt", "completion"):
            value = fields.get(name)
            if value is None:
                raise ValueError(f"there is no column {name!r}; columns are {', '.join(map(str, row)) or 'none'}")
            is_chat = isinstance(value, Sequence) and all(
                isinstance(part, Mapping) and "role" in part for part in value
            )
            if not isinstance(value, str) and not (value and is_chat):
                raise TypeError(f"{name!r} must be text or a list of chat messages, not a {type(value).__name__}")
        prompt, completion = fields.pop("prompt"), fields.pop("completion")
        known: dict[str, Any] = {}
        for name, kinds in (("group", (str, int)), ("num_tokens", (int,)), ("finish_reason", (str,))):
            value = read_only(fields.pop(name, None))
            if isinstance(value, float) and value.is_integer() and int in kinds:
                value = int(value)
            if not has_value(value):
                value = None
            elif not isinstance(value, kinds) or isinstance(value, bool):
                expected = " or ".join({str: "text", int: "a whole number"}[kind] for kind in kinds)
                raise TypeError(f"{name!r} must be {expected}, not {value!r}")
            known[name] = value
        return cls(prompt, completion, fields, **known)

    def to_row(self) -> dict[str, Any]:
        """Return the row that ``from_row`` makes this rollout from, as plain data that can be changed."""
        row = {"prompt": self.prompt, "completion": self.completion, **self.fields}
        for name in ("group", "num_tokens", "finish_reason"):
            if (value := getattr(self, name)) is not None:
                row[name] = value
        return copy.deepcopy(row)

    def has_value(self, field: str) -> bool:
        """Return False if a field is missing, None, NaN, NA, NaT, or an empty text or list. Prompt and completion always have a value.

        Args:
            field: The name of a column, or ``prompt``, ``completion``, ``group``, ``num_tokens`` or ``finish_reason``.
        """
        if has_value(self.fields.get(field)) or field in ("prompt", "completion"):
            return True
        return field in _OPTIONAL and has_value(getattr(self, field))

    @property
    def completion_text(self) -> str:
        """The completion as one string. Of chat messages, the assistant's texts are joined by newlines."""
        completion = self.completion
        if isinstance(completion, str):
            return completion
        return "\n".join(
            message_text(message.get("content")) for message in completion if message.get("role") == "assistant"
        )

    @property
    def prompt_text(self) -> str:
        """The prompt as one string. Of chat messages, all texts are joined by newlines."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return prompt
        return "\n".join(message_text(message.get("content")) for message in prompt)


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one rollout. A failure of the candidate (wrong, malformed, too slow) is a score, too."""

    value: float
    """The value: finite, higher is better."""
    reason: str = ""
    """The reason, in one line."""
    metrics: Mapping[str, float] | None = None
    """Further numbers to record, such as the number of tests passed."""
    steps: Sequence[float] | None = None
    """One value per step of the completion (a process reward), or None."""
    repeatable: bool = True
    """False if another try may give another score, such as a program that exceeded its time limit on a busy machine. The cache does
    not keep such a score."""
    extracted: str | None = None
    """What was read from the completion, such as its program, where the reason does not quote it. Reports mark it. Marks
    around it say it in less space where they are always the same: ``<answer>...</answer>``."""
    output: str | None = None
    """What a program of the completion printed in the run that decided the score."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a score must be a finite number, not {self.value!r}")


@dataclass(frozen=True, slots=True)
class Unscored:
    """No score was possible, for a reason that is not the candidate's fault. It never counts as a reward of 0.

    Kinds: ``infra`` (a service, sandbox or worker failed), ``timeout`` (the verifier, not the candidate, ran out of time),
    ``reference`` (the reference answer can't be understood), ``input`` (the row lacks what is needed), ``plugin`` (the
    plugin raised, died, or returned what is no score).
    """

    kind: UnscoredKind
    """The kind of failure."""
    message: str
    """What happened, in one line."""
    traceback: str | None = None
    """The traceback of an exception that a plugin raised."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The component was not run for this rollout, because its ``when`` or the gate was false."""

    reason: str
    """The condition that was false."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The reward does not apply to this rollout. It says nothing about the candidate, and it is no failure.

    The component takes no part in the combined reward; the weights of the others stay as they are. A rollout to which no component
    applies is unscored.
    """

    reason: str
    """The reason, in one line."""


Outcome: TypeAlias = Score | Unscored | NotApplicable | Skipped
"""The result of one component for one rollout."""

RewardResult: TypeAlias = float | int | bool | Score | Unscored | NotApplicable
"""The result of a plugin for one rollout."""


class RewardFunction(Protocol):
    """A reward that is ready to use. It takes a batch of rollouts and returns as many results, in the same order.

    An ``async`` reward returns an awaitable of the same. One of scope ``"group"`` is called with one group: all its
    members, or with a condition or gate those that it lets through.

    Further attributes are called where there are any: ``close()`` at the end. ``preflight()`` before the first rollout of a run: it returns
    why no rollout could be scored, such as a service that is down, or None. ``costs()`` at any time: it returns what all calls so far have
    cost, as sums by name, such as tokens.
    """

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[RewardResult] | Awaitable[Sequence[RewardResult]]:
        """Score a batch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Limits of a reward that waits for a service. A reward file overrides them under ``limits``.

    The time-out of a call starts when the call starts, not while it waits for its turn.
    """

    endpoint: str = ""
    """The address of the service. Components that name the same one share its limit and its failures. Empty: the component's own."""
    concurrency: int = 64
    """The most calls at once."""
    batch: int = 1
    """The most rollouts in one call, for rewards that take a batch."""
    tries: int = 1
    """Attempts per call. Network errors, time-outs and the HTTP status codes 429 and 5xx are tried again."""
    pause: float = 0.25
    """Seconds before the second attempt. The pause doubles each time, and is never shorter than the service's Retry-After."""
    down_after: int = 0
    """Calls in a row that fail for good, after which the endpoint is not called for ``down_for`` seconds. 0: it is always called."""
    down_for: float = 30.0
    """Seconds for which an endpoint that is down is not called."""


LACKING_ATTRIBUTE: Mapping[str, str] = {
    "num_tokens": "the row does not say how many tokens the completion has: add a column num_tokens, or measure characters",
    "finish_reason": "the row does not say whether the completion was truncated: add a column finish_reason",
}
"""Why a reward that reads an attribute of the rollout can't score one without it."""


@dataclass(frozen=True, slots=True)
class RewardType:
    """A reward that a plugin offers. A reward file makes components of it (``use: NAME, with: {…}``)."""

    name: str
    """The name in reward files: ``math``, or ``family.member`` such as ``format.tags``."""
    params: type[Any]
    """A dataclass or pydantic model of the parameters. Its JSON Schema validates ``with``."""
    build: Callable[[Any], RewardFunction]
    """Builds the reward from an instance of ``params``. It raises ValueError if parameters contradict each other."""
    needs: tuple[str, ...] | Callable[[Any], Iterable[str]] = ()
    """The fields that it reads from a row, or a function of the parameters that returns them. Missing columns are reported before a run."""
    may_be_empty: tuple[str, ...] = ()
    """The parameters that name a column whose text may be empty, such as the input of a program."""
    may_be_missing: tuple[str, ...] = ()
    """The parameters that name a column which may have no value in some rows, such as the function that the tests of some rows call."""
    needs_tokens: bool | Callable[[Any], bool] = False
    """True if it reads ``num_tokens``, or a function of the parameters that tells. A rollout without ``num_tokens`` is then unscored."""
    needs_finish_reason: bool | Callable[[Any], bool] = False
    """True if it reads ``finish_reason``, or a function of the parameters that tells. A rollout without one is then unscored."""
    scope: Scope = "rollout"
    """``"group"``: the reward compares the rollouts of one prompt, so it is called with whole groups."""
    rowwise: bool = False
    """True if it is called with one rollout at a time."""
    executor: Executor = "inline"
    """``inline``: pure and fast · ``process``: runs in a worker process that can be killed · ``async``: waits for a service ·
    ``device``: runs batches on an accelerator, one at a time."""
    timeout_s: float | None = None
    """The time limit per rollout in seconds (``process`` and ``async``); ``timeout`` in the reward file overrides it. None: no limit."""
    limits: CallLimits | Callable[[Any], CallLimits] | None = None
    """The limits of its calls, or a function of the parameters that returns them (executor ``async``). None: those of `CallLimits`."""
    deterministic: bool = False
    """True if the same rollout always gets the same score and a cache lookup is cheaper than scoring. Scores are then cached."""
    repeatable: bool = True
    """False for a reward with a state or chance in it, whose next score of the same rollout may be another."""
    identity: Callable[[Any], str | None] | None = None
    """For deterministic rewards: a function of the parameters that returns what else determines the scores, such as a hash of a model
    or an image. It is called once, before the first rollout. If it returns None, no scores are kept."""
    content: Callable[[Any, Rollout], Any] | None = None
    """For deterministic rewards: a function that returns the part of a rollout that determines its score, as JSON data. Rollouts with
    equal content are scored once."""
    check: Callable[[Any, Rollout], str | None] | None = None
    """A check of a row that does not score it, such as whether the reference parses. It returns the problem, or None."""
    describe: Callable[[Any, Rollout], str | None] | None = None
    """A function that returns in a few words what kind of row it gets, such as the format of its tests, or None. ``rewardkit check``
    counts the rows of each kind."""
    doc: str = ""
    """The documentation, in Markdown. The first line is the summary."""
    example: str = ""
    """An example of a component in YAML."""
    origin: str = ""
    """The decorated function as ``module:name``, by which a worker process finds it."""

    def __post_init__(self) -> None:
        if not self.name or any(character.isspace() for character in self.name):
            raise ValueError(f"{self.name!r} is no name for a reward: use words joined by dots")
        if self.executor not in get_args(Executor):
            raise ValueError(
                f"reward {self.name!r}: executor must be {', '.join(get_args(Executor))}, not {self.executor!r}"
            )
        if self.scope not in get_args(Scope):
            raise ValueError(f"reward {self.name!r}: scope must be {' or '.join(get_args(Scope))}, not {self.scope!r}")
        if self.deterministic and not self.repeatable:
            raise ValueError(f"reward {self.name!r}: it can't be both deterministic and not repeatable")
        if isinstance(self.needs, str):
            raise TypeError(f"reward {self.name!r}: needs must be a list of fields, as in [{self.needs!r}]")

    def needed_fields(self, params: Any) -> tuple[str, ...]:
        """Return the names of the columns that a component reads, without repeats.

        Args:
            params: The parameters of the component.
        """
        needs = self.needs(params) if callable(self.needs) else self.needs
        return tuple(dict.fromkeys(needs))

    def needed_attributes(self, params: Any) -> tuple[str, ...]:
        """Return which of ``num_tokens`` and ``finish_reason`` a component reads.

        Args:
            params: The parameters of the component.
        """
        needs = {"num_tokens": self.needs_tokens, "finish_reason": self.needs_finish_reason}
        return tuple(name for name, needed in needs.items() if (needed(params) if callable(needed) else needed))

    def call_limits(self, params: Any) -> CallLimits | None:
        """Return the limits of a component's calls, or None if it makes none.

        Args:
            params: The parameters of the component.
        """
        limits = self.limits(params) if callable(self.limits) else self.limits
        return CallLimits() if limits is None and self.executor == "async" else limits

    def fields_without_value(self, params: Any, rollout: Rollout) -> list[str]:
        """Return the fields that a component with these parameters needs and a rollout has no value for.

        Args:
            params: The parameters of the component.
            rollout: The rollout.
        """
        lacking = [name for name in self.needed_fields(params) if not rollout.has_value(name)]
        if not lacking:
            return []
        empty = columns_named_by(params, self.may_be_empty)
        missing = columns_named_by(params, self.may_be_missing)
        return [
            name for name in lacking if name not in missing and not (name in empty and rollout.fields.get(name) == "")
        ]


def columns_named_by(params: Any, parameters: Iterable[str]) -> list[str]:
    """Return the columns that parameters name, in their order.

    Args:
        params: The parameters of a component.
        parameters: Which of them name columns: each holds a name, several names, or None.
    """
    values = [getattr(params, parameter) for parameter in parameters]
    return [name for value in values if value is not None for name in ([value] if isinstance(value, str) else value)]


def outcome_status(outcome: Outcome) -> OutcomeStatus:
    """Return the status of a component's result, as scored rows have it.

    Args:
        outcome: The result.
    """
    match outcome:
        case Score():
            return "scored"
        case Unscored():
            return "unscored"
        case NotApplicable():
            return "not_applicable"
        case Skipped():
            return "skipped"


_OPTIONAL = frozenset(("group", "num_tokens", "finish_reason"))
"""The columns of a row that become attributes of a rollout, if it has them."""


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with its reward and the result of every component."""

    rollout: Rollout
    """The rollout that was scored."""
    reward: float | None
    """The reward; None if the rollout is unscored (0.0 with the policy ``zero``)."""
    outcomes: Mapping[str, Outcome]
    """The results by component name. Every rollout of a run has the same names in the same order."""
    weights: Mapping[str, float]
    """The weight of each component at this step."""
    contributions: Mapping[str, float | None]
    """Weight × scaled and clipped value of each component; None if it has no value or the gate is false."""
    reward_id: str
    """Identifies the resolved configuration and the plugins' versions."""
    unscored: Unscored | None = None
    """The reason why the rollout is unscored: the result of the first weighted component that is unscored, or that no component applies."""

    @property
    def status(self) -> Literal["scored", "unscored"]:
        """``"unscored"`` if a component with a weight is unscored, or no component applies; else ``"scored"``."""
        return "scored" if self.unscored is None else "unscored"

    def to_dict(self) -> dict[str, Any]:
        """Return the row with its scores, in the columns that ``rewardkit score`` writes."""
        return {**self.rollout.to_row(), **self.scores()}

    def scores(self) -> dict[str, Any]:
        """Return the columns that ``rewardkit score`` adds to a row."""
        return {
            "reward": self.reward,
            "reward_status": self.status,
            "reward_id": self.reward_id,
            "components": {name: self._component(name) for name in self.outcomes},
        }

    def _component(self, name: str) -> dict[str, Any]:
        outcome = self.outcomes[name]
        found: dict[str, Any] = {
            "value": outcome.value if isinstance(outcome, Score) else None,
            "weight": self.weights[name],
            "contribution": self.contributions[name],
        }
        if isinstance(outcome, Score):
            more: dict[str, Any] = {
                "metrics": dict(outcome.metrics or {}) or None,
                "steps": list(outcome.steps or ()) or None,
                "extracted": outcome.extracted,
                "output": outcome.output,
            }
            found |= {"status": "scored", "reason": outcome.reason}
        elif isinstance(outcome, Unscored):
            more = {"kind": outcome.kind, "traceback": outcome.traceback}
            found |= {"status": "unscored", "reason": outcome.message}
        else:
            more = {}
            found |= {"status": outcome_status(outcome), "reason": outcome.reason}
        return found | {key: value for key, value in more.items() if value is not None}


FindingStatus: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of ``rewardkit doctor`` about this machine."""

    name: str
    """The subject, in a few words."""
    status: FindingStatus
    """``note``: something optional is absent or weaker than it could be · ``problem``: something does not work."""
    detail: str = ""
    """What was found."""
    remedy: str = ""
    """What to do, such as a command to run. Empty if nothing needs to be done."""

    def __post_init__(self) -> None:
        if self.status not in get_args(FindingStatus):
            raise ValueError(f"a finding's status is one of {', '.join(get_args(FindingStatus))}, not {self.status!r}")
