"""Reward functions that are no plugins: ``use: ./my_rewards.py:accuracy`` or ``use: package.module:accuracy``.

A function may be written for rewardkit, TRL, verl, OpenRLHF or verifiers: the names of its parameters tell which. Reading a reward file
never imports it: its parameters are read from its source, and it runs in worker processes, which can be killed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rewardkit.types import CallLimits, RewardFunction, RewardType
from rewardkit.user_functions.calling import AsyncFunctionCaller, FunctionCaller
from rewardkit.user_functions.loading import load, load_module, load_object
from rewardkit.user_functions.source import PATTERN, FunctionSource, is_function
from rewardkit.user_functions.styles import FunctionParams, needed_columns

__all__ = [
    "PATTERN",
    "FunctionCaller",
    "FunctionParams",
    "FunctionSource",
    "function_type",
    "is_function",
    "load_module",
    "load_object",
    "try_import",
]

TIMEOUT_S = 30.0
"""Seconds that a call may take by default."""


def function_type(use: str, source: FunctionSource) -> RewardType:
    """Return a function as a reward type that runs in worker processes. A coroutine function waits for many rollouts at a time.

    Args:
        use: What the reward file says.
        source: Where the function is.
    """
    return RewardType(
        name=use,
        params=FunctionParams,
        build=functools.partial(_build, source.target, is_async=source.is_async),
        needs=functools.partial(needed_columns, use, source.parameters),
        executor="process",
        timeout_s=TIMEOUT_S,
        limits=CallLimits() if source.is_async else None,
        doc="A function of yours.",
        origin=source.target,
    )


def _build(target: str, params: FunctionParams, *, is_async: bool = False) -> RewardFunction:
    """Import a function, in a worker process, and return what calls it."""
    kind = AsyncFunctionCaller if is_async else FunctionCaller
    return kind(load(target), target, params)


def try_import(target: str, settings: Mapping[str, Any]) -> None:
    """Import a function and recognise its style, in a process that may be killed.

    Args:
        target: The function, as in `FunctionSource`.
        settings: The parameters of a component.

    Raises:
        ValueError: The function does not exist, can't be called, or its style is unknown.
    """
    FunctionCaller(load(target), target, FunctionParams(**settings))
