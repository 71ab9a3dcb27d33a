"""Calls rewards and turns what they return or raise into outcomes.

An outcome is a score, or ``Unscored`` with the plugin's name and traceback. Nothing that a plugin does wrong becomes a reward of 0.
Batches are tuples of read-only rollouts, so a reward cannot change what others read. If a reward forks and its child returns, the
child ends here: only the process that made the call goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, get_args

from rewardkit.authoring import AsyncRowwise, Rowwise
from rewardkit.composite.failures import describe_raised, is_network_error
from rewardkit.types import NotApplicable, Outcome, RewardFunction, Rollout, Score, Unscored, UnscoredKind

logger = logging.getLogger(__name__)

_KINDS = frozenset(get_args(UnscoredKind))
_PARTS = attrgetter("value", "reason", "metrics", "steps", "extracted", "output")
_TEXT_OR_NONE = {str, type(None)}
_ZERO, _ONE = Score(0.0), Score(1.0)


_forks = 0
"""How many forks lie between the first process and this one. Comparing it is faster than asking for the process id for each row."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


@contextlib.contextmanager
def ending_forked_children() -> Iterator[None]:
    """Run a plugin's code. If it forks and the child leaves the block, the child exits at once."""
    caller = os.getpid()
    try:
        yield
    finally:
        _end_forked_child(caller)


def _end_forked_child(caller: int) -> None:
    if os.getpid() != caller:
        os._exit(0)


def call_reward(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    """Score a batch. If the whole batch raises, its rollouts are tried one by one, so that only the culprit is unscored.

    If the batch raises a network error and so does its first rollout, the service is down and the others are not tried.

    Args:
        function: The built reward, of scope ``rollout``.
        rollouts: Any number of rollouts.
        who: The reward and its distribution, for messages.
    """
    if isinstance(function, Rowwise):
        one = function.one
        with ending_forked_children():
            return [call_one(one, rollout, who) for rollout in rollouts]
    if not rollouts:
        return []
    try:
        return _call_batch(function, rollouts, who)
    except KeyboardInterrupt:
        raise
    # The boundary: a plugin may raise anything, also SystemExit or the panic of a Rust extension.
    except BaseException as error:  # noqa: BLE001
        if len(rollouts) == 1:
            return [describe_raised(error, who)]
        is_outage = is_network_error(error)
    first = call_reward(function, rollouts[:1], who)
    if is_outage and isinstance(first[0], Unscored) and first[0].kind == "infra":
        return first * len(rollouts)
    return first + [outcome for rollout in rollouts[1:] for outcome in call_reward(function, [rollout], who)]


def call_group(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    """Score one whole group. If the reward raises, the whole group is unscored."""
    try:
        return _call_batch(function, rollouts, who)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        return [describe_raised(error, who)] * len(rollouts)


def _call_batch(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    with ending_forked_children():
        return check_results(function(tuple(rollouts)), len(rollouts), who)


def call_one(one: Callable[[Rollout], Any], rollout: Rollout, who: str) -> Outcome:
    """Score a single rollout by a function of one rollout."""
    before = _forks
    try:
        return to_outcome(one(rollout), who)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        return describe_raised(error, who)
    finally:
        if _forks != before:
            os._exit(0)


async def call_async(
    function: RewardFunction,
    rollouts: Sequence[Rollout],
    who: str,
    raised: Callable[[BaseException], None] = lambda _error: None,
) -> list[Outcome]:
    """Score some rollouts, or one group, by a coroutine function. Cancelling the task that this runs in passes through.

    Args:
        function: The built reward.
        rollouts: The rollouts of one call.
        who: The reward and its distribution, for messages.
        raised: Called with what the reward raises.
    """
    caller = os.getpid()
    try:
        if isinstance(function, AsyncRowwise):
            return [to_outcome(await function.one(rollout), who) for rollout in rollouts]
        results: Any = function(tuple(rollouts))
        return check_results(await results if inspect.isawaitable(results) else results, len(rollouts), who)
    except GeneratorExit:
        raise
    # KeyboardInterrupt too: Ctrl-C comes to the main thread, never to the event loop's.
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raised(error)
        return [describe_raised(error, who)] * len(rollouts)
    finally:
        _end_forked_child(caller)


def close_reward(function: object, who: str) -> None:
    """Call a reward's ``close``, unless it is a coroutine function. An exception is only logged."""
    try:
        close = getattr(function, "close", None)
        if callable(close) and not inspect.iscoroutinefunction(close):
            with ending_forked_children():
                close()
    except Exception:
        logger.exception("%s could not be closed", who)


def check_results(results: Any, expected: int, who: str) -> list[Outcome]:
    """Return the outcomes of a batch's results; all are unscored if there are not as many as rollouts.

    Raises:
        BaseException: What the results' own methods raise, as those of a lazy sequence may.
    """
    if (
        isinstance(results, str | bytes | Mapping)
        or not hasattr(results, "__len__")
        or not hasattr(results, "__iter__")
    ):
        found = f"a {type(results).__name__}"
        return [Unscored("plugin", f"{who} returned {found}, not a list of {expected} scores")] * expected
    results = list(results)
    if len(results) != expected:
        return [Unscored("plugin", f"{who} returned {len(results)} scores for {expected} rollouts")] * expected
    if set(map(type, results)) == {Score} and _are_plain(results):
        scores: list[Outcome] = results
        return scores
    return [to_outcome(result, who) for result in results]


def to_outcome(result: Any, who: str) -> Outcome:
    """Return what a plugin returned for one rollout as a score with a finite float, or as Unscored.

    The outcome consists of plain types only, whatever subclasses the plugin uses, since it goes between processes and to disk.

    Raises:
        BaseException: What the result's own methods raise.
    """
    kind = type(result)
    if kind is float or kind is bool or kind is int:
        if result == 1:
            return _ONE
        if result == 0:
            return _ZERO
    if isinstance(result, Score):
        return _checked_score(result, who)
    if isinstance(result, Unscored):
        return _checked_unscored(result, who)
    if isinstance(result, NotApplicable):
        return NotApplicable(str(result.reason))
    if not isinstance(result, numbers.Real) and callable(item := getattr(result, "item", None)):
        result = item()  # a scalar of numpy or torch
    if not isinstance(result, numbers.Real):
        found = "nothing (None)" if result is None else f"a {kind.__name__}"
        return Unscored("plugin", f"{who} returned {found}, not a number, a Score, an Unscored or a NotApplicable")
    try:
        value = float(result)
    except (OverflowError, ValueError, TypeError) as error:
        return Unscored("plugin", f"{who} returned a number that is no float: {error}")
    if not math.isfinite(value):
        return Unscored("plugin", f"{who} returned {value}, which is not a finite number")
    return Score(value)


def _checked_score(score: Score, who: str) -> Outcome:
    if type(score) is Score and _are_plain([score]):
        return score
    reason: object = score.reason
    if not isinstance(reason, str):
        return Unscored("plugin", f"{who} gave a score whose reason is a {type(reason).__name__}, not text")
    try:
        metrics = None if score.metrics is None else {str(name): float(value) for name, value in score.metrics.items()}
        steps = None if score.steps is None else [float(value) for value in score.steps]
        value = float(score.value)
    except (OverflowError, ValueError, TypeError, AttributeError) as error:
        return Unscored("plugin", f"{who} gave a score whose numbers are none: {error}")
    for number in (value, *(metrics or {}).values(), *(steps or ())):
        if not math.isfinite(number):
            return Unscored("plugin", f"{who} gave a score that holds {number}, which is not a finite number")
    extracted, output = (None if text is None else str(text) for text in (score.extracted, score.output))
    return Score(value, str.__str__(reason), metrics, steps, bool(score.repeatable), extracted, output)


def _are_plain(scores: Sequence[Score]) -> bool:
    """Return True if all scores are of plain types and finite. There is at least one."""
    values, reasons, *extras = zip(*map(_PARTS, scores), strict=True)
    return (
        set(map(type, values)) == {float}
        and set(map(type, reasons)) == {str}
        and all(extra.count(None) == len(scores) for extra in extras[:2])
        and all(text.count(None) == len(scores) or set(map(type, text)) <= _TEXT_OR_NONE for text in extras[2:])
        and all(map(math.isfinite, values))
    )


def _checked_unscored(result: Unscored, who: str) -> Unscored:
    message = str(result.message)
    if str(result.kind) not in _KINDS:
        return Unscored("plugin", f"{who} gave the unknown kind {str(result.kind)!r}: {message}")
    return Unscored(result.kind, message, None if result.traceback is None else str(result.traceback))
