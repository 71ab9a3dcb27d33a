"""Calls of services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rewardkit.services.limits import call, endpoint_of
from rewardkit.types import CallLimits

T = TypeVar("T")


async def call_service(limits: CallLimits, attempt: Callable[[], Awaitable[T]]) -> T:
    """Call a service within limits, which all callers of this process share that name the same endpoint.

    Args:
        limits: How many calls at once, how many tries, and when the endpoint counts as down.
        attempt: Makes one attempt. It raises `TryAgainError` if another may succeed; any other exception ends the call.

    Raises:
        GaveUpError: All tries failed, or the endpoint is down.
    """
    return await call(limits, endpoint_of(limits), attempt)
