"""The library's entry points: `verify`, `verify_async`, and the verdict that they return."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from rewardkit_math.extraction import Answer
from rewardkit_math.policy import Policy
from rewardkit_math.question import Outcome, Question
from rewardkit_math.reading import Read, read, read_reference

DEFAULT = Policy()
Failure: TypeAlias = Literal["", "reference", "timeout", "infra"]


QUOTED = 80
"""Characters of an answer that a reason quotes whole."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison: whether the answers are equal, and why."""

    correct: bool | None
    """True if the answers are equal, False if not; None if there is no verdict, which is not the prediction's fault (see `failure`)."""

    reason: str
    """The answer that was extracted from each side, and the reason of the verdict."""

    tier: str
    """The tier that decided: text, rational, normal form, structure, numeric or symbolic; "" if there is no verdict."""

    failure: Failure = ""
    """The reason if there is no verdict: "reference" (it can't be understood or compared), "timeout" or "infra" (workers died)."""

    prediction: Answer | None = None
    """The answer that was extracted from the prediction."""

    reference: Answer | None = None
    """The answer that was extracted from the reference."""


def verify(prediction: str, reference: str, *, policy: Policy | None = None, **options: Any) -> Verdict:
    """Decide whether `prediction` gives the same answer as `reference`.

    Both may be a bare answer or a whole text with an answer in it. Never raises for any text.

    Args:
        prediction: The text to be checked.
        reference: The right answer.
        policy: Conventions, see `Policy`.
        **options: Fields of `Policy` that replace those of `policy`.

    Returns:
        A verdict; `correct` is None if the reference can't be understood, time ran out, or workers died.

    Raises:
        TypeError: An option isn't a field of `Policy`.
    """
    question = _question(prediction, reference, policy, options)
    outcome = question.fast(question.policy.max_steps)
    return _verdict(question, outcome if isinstance(outcome, Outcome) else question.slow(outcome))


async def verify_async(prediction: str, reference: str, *, policy: Policy | None = None, **options: Any) -> Verdict:
    """Return what `verify` returns, without blocking the event loop.

    The loop gets a turn before each call. Long texts, comparisons of more than a few steps, and questions to a worker process run in
    another thread.

    Args:
        prediction: As for `verify`.
        reference: As for `verify`.
        policy: As for `verify`.
        **options: As for `verify`.

    Returns:
        A verdict.
    """
    await asyncio.sleep(0)
    if len(prediction) + len(reference) > _LONG:
        return await asyncio.to_thread(partial(verify, prediction, reference, policy=policy, **options))
    question = _question(prediction, reference, policy, options)
    outcome = question.fast(min(_SHORT, question.policy.max_steps))
    if not isinstance(outcome, Outcome):
        outcome = await asyncio.to_thread(question.all_tiers)
    return _verdict(question, outcome)


_LONG = 20_000
"""Texts with more characters than this are read in another thread."""

_SHORT = 1_000
"""Steps that a comparison may take in the event loop's thread."""


def _question(prediction: str, reference: str, policy: Policy | None, options: dict[str, Any]) -> Question:
    chosen = _policy(policy, options)
    return Question(prediction, read(prediction, chosen.extraction), read_reference(reference), chosen)


def _policy(policy: Policy | None, options: dict[str, Any]) -> Policy:
    base = policy or DEFAULT
    if not options:
        return base
    known = {name: getattr(base, name) for name in Policy.__slots__}
    unknown = options.keys() - known.keys()
    if unknown:
        raise TypeError(f"verify() has no option {min(unknown)!r}; the options are {', '.join(sorted(known))}")
    return Policy(**known | options)


def _verdict(question: Question, outcome: Outcome) -> Verdict:
    """Return an outcome together with what was read from each side."""
    failure: Failure = ""
    tier = outcome.tier
    if outcome.correct is None:
        failure = "timeout" if tier == "timeout" else "infra" if tier == "infra" else "reference"
        tier = ""
    reason = f"prediction {_shown(question.theirs)}, reference {_shown(question.ours)}: {outcome.why}"
    return Verdict(outcome.correct, reason, tier, failure, question.theirs.answer, question.ours.answer)


def _shown(side: Read) -> str:
    found = side.answer.text
    if not side.answer:
        return "(no answer found)"
    shown = found if len(found) <= QUOTED else f"{found[:60]}…{found[-16:]}"
    return f"{shown!r} ({side.answer.source})"
