"""The one place where a plugin's code is called and what comes of it is classified.

Whatever a plugin raises or returns ends here as an outcome: a score, or ``Unscored`` with the plugin's name and traceback. Nothing a
plugin does wrong becomes a reward of 0.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import numbers
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from rewardkit.authoring import AsyncRowwise, Rowwise
from rewardkit.types import Outcome, RewardFunction, Rollout, Score, Unscored, UnscoredKind

logger = logging.getLogger(__name__)

_KINDS = frozenset(get_args(UnscoredKind))
_PASS = (KeyboardInterrupt, GeneratorExit)
"""What is not the plugin's: somebody wants this work to end."""
_ZERO, _ONE = Score(0.0), Score(1.0)
MAX_MESSAGE = 300
MAX_TRACEBACK = 20_000
"""Characters that are kept of what a plugin raised; an exception may quote a whole completion."""


def call_reward(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    """Score a batch. If the batch as a whole raises, its rollouts are tried one by one, so that only the culprit is unscored.

    Args:
        function: The built reward, of scope ``rollout``.
        rollouts: Any number of rollouts.
        who: The reward and its distribution, for messages.
    """
    if isinstance(function, Rowwise):
        return [call_one(function.one, rollout, who) for rollout in rollouts]
    if not rollouts:
        return []
    try:
        return check_results(function(rollouts), len(rollouts), who)
    except _PASS:
        raise
    # The boundary: a plugin may raise anything, also SystemExit or the panic of a Rust extension.
    except BaseException as error:  # noqa: BLE001
        if len(rollouts) == 1:
            return [_raised(error, who)]
    return [outcome for rollout in rollouts for outcome in call_reward(function, [rollout], who)]


def call_group(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    """Score one whole group; if it raises, all of the group is unscored."""
    try:
        return check_results(function(rollouts), len(rollouts), who)
    except _PASS:
        raise
    except BaseException as error:  # noqa: BLE001
        return [_raised(error, who)] * len(rollouts)


def call_one(one: Callable[[Rollout], Any], rollout: Rollout, who: str) -> Outcome:
    """Score a single rollout by a function of one rollout."""
    try:
        return to_outcome(one(rollout), who)
    except _PASS:
        raise
    except BaseException as error:  # noqa: BLE001
        return _raised(error, who)


async def call_async(function: RewardFunction, rollouts: Sequence[Rollout], who: str) -> list[Outcome]:
    """Score one rollout, or one group, by a coroutine function. Cancelling the task that this runs in passes through."""
    try:
        if isinstance(function, AsyncRowwise):
            return [to_outcome(await function.one(rollout), who) for rollout in rollouts]
        results: Any = function(rollouts)
        return check_results(await results if inspect.isawaitable(results) else results, len(rollouts), who)
    except GeneratorExit:
        raise
    # KeyboardInterrupt too: Ctrl-C comes to the main thread, never to the event loop's.
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return [_raised(error, who)] * len(rollouts)


def close_reward(function: object, who: str) -> None:
    """Call a reward's ``close``, where it has one that is no coroutine function. That it raises is only told."""
    try:
        close = getattr(function, "close", None)
        if callable(close) and not inspect.iscoroutinefunction(close):
            close()
    except Exception:
        logger.exception("%s could not be closed", who)


def check_results(results: Any, expected: int, who: str) -> list[Outcome]:
    """Outcomes of a batch's results; all unscored if there are not as many as rollouts.

    May raise what the results' own methods raise, as a lazy sequence does.
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
    return [to_outcome(result, who) for result in results]


def to_outcome(result: Any, who: str) -> Outcome:
    """What a plugin returned for one rollout, as a score with a finite float, or as Unscored.

    What comes out is made of plain types alone, whatever subclasses the plugin has of them: it goes between processes and to disk.
    May raise what the result's own methods raise.
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
    if not isinstance(result, numbers.Real) and callable(item := getattr(result, "item", None)):
        result = item()  # a scalar of numpy or torch
    if not isinstance(result, numbers.Real):
        found = "nothing (None)" if result is None else f"a {kind.__name__}"
        return Unscored("plugin", f"{who} returned {found}, not a number, a Score or an Unscored")
    try:
        value = float(result)
    except (OverflowError, ValueError, TypeError) as error:
        return Unscored("plugin", f"{who} returned a number that is no float: {error}")
    if not math.isfinite(value):
        return Unscored("plugin", f"{who} returned {value}, which is not a finite number")
    return Score(value)


def _checked_score(score: Score, who: str) -> Outcome:
    plain = type(score) is Score and type(score.value) is float and type(score.reason) is str
    if plain and score.metrics is None and score.steps is None and math.isfinite(score.value):
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
    return Score(value, str.__str__(reason), metrics, steps, bool(score.repeatable))


def _checked_unscored(result: Unscored, who: str) -> Unscored:
    message = str(result.message)
    if str(result.kind) not in _KINDS:
        return Unscored("plugin", f"{who} gave the unknown kind {str(result.kind)!r}: {message}")
    return Unscored(result.kind, message, None if result.traceback is None else str(result.traceback))


def _raised(error: BaseException, who: str) -> Unscored:
    try:
        text = " ".join(str(error)[: 2 * MAX_MESSAGE].split())[:MAX_MESSAGE]
    except Exception:  # noqa: BLE001 - its __str__ is the plugin's code too
        text = "(its text can't be had)"
    message = f"{who} raised {type(error).__name__}{f': {text}' if text else ''}"
    return Unscored("plugin", message, "".join(traceback.format_exception(error))[-MAX_TRACEBACK:])
