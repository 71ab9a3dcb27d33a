"""Classifies what a reward raised: the failure of a service that it calls, or its own."""

from __future__ import annotations

import http.client
import ssl
import traceback
from collections.abc import Iterator
from typing import Any

from rewardkit.services.limits import retry_after_s
from rewardkit.types import Unscored, UnscoredKind

MAX_MESSAGE = 300
MAX_TRACEBACK = 20_000
"""Characters that are kept of what a plugin raised; an exception may quote a whole completion."""
_MAX_CAUSES = 20
_OWN_FAULTS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError)
"""Subclasses of network errors that a mistake in the plugin or its parameters causes. ``requests`` and ``aiohttp`` raise a
``ValueError`` for a malformed address."""
_SERVICE_ERRORS = {
    "asyncio": {"IncompleteReadError"},
    "httpx": {"TransportError", "HTTPStatusError", "StreamError"},
    "httpcore": {"NetworkError", "TimeoutException", "ProtocolError", "ConnectionNotAvailable"},
    "aiohttp": {"ClientError"},
    "urllib3": {"HTTPError"},
    "websockets": {"WebSocketException"},
    "grpc": {"RpcError"},
    "openai": {"APIError"},
    "anthropic": {"APIError"},
    "botocore": {"BotoCoreError", "ClientError"},
    "google": {"GoogleAPICallError", "RetryError"},
    "redis": {"ConnectionError", "TimeoutError"},
}
"""Base classes of network errors by the top-level package that defines them. The packages need not be installed."""
_REQUEST_AT_FAULT = {400, 404, 405, 406, 410, 411, 413, 414, 415, 422}
"""HTTP status codes that say that the request is wrong, so that another try gets the same answer."""


def describe_raised(error: BaseException, who: str) -> Unscored:
    """Return why a rollout has no score, from what its reward raised.

    A network error is the failure of a service (``infra``); anything else is the plugin's own.

    Args:
        error: What was raised.
        who: The reward and its distribution.
    """
    try:
        text = " ".join(str(error)[: 2 * MAX_MESSAGE].split())[:MAX_MESSAGE]
    # The boundary: its __str__ is the plugin's code, too.
    except Exception:  # noqa: BLE001
        text = "(its text can't be had)"
    message = f"{who} raised {type(error).__name__}{f': {text}' if text else ''}"
    return Unscored(kind_of(error), message, "".join(traceback.format_exception(error))[-MAX_TRACEBACK:])


def kind_of(error: BaseException) -> UnscoredKind:
    """Return ``infra`` for a network error, or an error that was raised from one; ``plugin`` for any other."""
    return "infra" if any(map(is_network_error, _with_causes(error))) else "plugin"


def is_network_error(error: BaseException) -> bool:
    """Return True if a service could not be reached, took too long, or failed.

    Errors of HTTP clients and SDKs are known by the names of their base classes.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_network_error, error.exceptions))
    if isinstance(error, _OWN_FAULTS) and not isinstance(error, ssl.SSLError):
        return False
    if not isinstance(error, OSError | http.client.HTTPException) and not any(
        base.__name__ in _SERVICE_ERRORS.get(base.__module__.partition(".")[0], ()) for base in type(error).__mro__
    ):
        return False
    return _status(error) not in _REQUEST_AT_FAULT


def asked_pause_s(error: BaseException) -> float:
    """Return the seconds after which a service wants to be called again, as the ``Retry-After`` of an error's response says; else 0."""
    for cause in _with_causes(error):
        for holder in (getattr(cause, "response", None), cause):
            if seconds := retry_after_s(getattr(holder, "headers", None)):
                return seconds
    return 0.0


def _status(error: BaseException) -> Any:
    """Return the HTTP status that an error carries, or None."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int):
                return status
    return None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was explicitly raised from."""
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
