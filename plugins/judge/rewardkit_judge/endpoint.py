"""Calls an OpenAI-compatible endpoint: limits, retries, and a pause when it is down."""

from __future__ import annotations

import asyncio
import collections
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_PAUSE_S = 60.0
DOWN_AFTER = 5
"""Calls in a row that fail for good, after which the endpoint counts as down."""
DOWN_FOR_S = 30.0
"""Seconds for which an endpoint that is down is not called."""


class EndpointError(Exception):
    """The endpoint gave no response. The message says why and after how many attempts."""


class Limiter:
    """A limit on calls at once that holds across event loops, because each reward has an event loop of its own.

    Args:
        most: The limit.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._free = most
        self._waiting: collections.deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = collections.deque()

    async def __aenter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                is_waiting = (loop, turn) in self._waiting
                if is_waiting:
                    self._waiting.remove((loop, turn))
            if not is_waiting:  # the turn has been given, and nobody uses it
                self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, turn = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_give, turn)
            except RuntimeError:  # that loop has been closed; the next one gets the turn
                continue
            return


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


@dataclass(slots=True)
class _Shared:
    """The state of an endpoint that all rewards of the process share."""

    limiter: Limiter
    failures: int = 0
    """Calls in a row that failed for good."""
    down_until: float = 0.0
    last_error: str = ""


_shared: dict[tuple[str, int], _Shared] = {}
_shared_lock = threading.Lock()


@dataclass(slots=True)
class Usage:
    """The cost of calls."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(slots=True)
class Endpoint:
    """One endpoint, as one reward uses it.

    Args:
        url: The address, such as ``http://127.0.0.1:8000/v1``.
        concurrency: The most calls at once, for all rewards of this process that use the address.
        tries: Attempts per call.
        timeout_s: Seconds that one attempt may take.
        key_variable: The environment variable that holds the key. Empty, or not set: no key is sent.
    """

    url: str
    concurrency: int
    tries: int
    timeout_s: float
    key_variable: str
    _client: httpx.AsyncClient | None = field(default=None, init=False)

    @property
    def _state(self) -> _Shared:
        with _shared_lock:
            return _shared.setdefault((self.url, self.concurrency), _Shared(Limiter(self.concurrency)))

    async def chat(self, body: Mapping[str, Any]) -> tuple[Any, Usage]:
        """Ask for a chat completion.

        Args:
            body: The request.

        Returns:
            The response as JSON data, and what it cost.

        Raises:
            EndpointError: There was no response after all attempts, the request was refused, or the endpoint is down.
        """
        state = self._state
        problem, pause = "", 0.0
        for attempt in range(self.tries):
            if attempt:
                await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_S, 0.25 * 2**attempt) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries
            async with state.limiter:
                if (rest := state.down_until - time.monotonic()) > 0:
                    raise EndpointError(f"{self.url} is down ({state.last_error}); it is tried again in {rest:.0f} s")
                try:
                    response = await self._open().post(f"{self.url}/chat/completions", json=body)
                except httpx.TimeoutException:
                    problem = f"no response within {self.timeout_s:g} s"
                    continue
                except httpx.TransportError as error:
                    problem = f"{type(error).__name__}: {error}"
                    continue
            if response.status_code in RETRIED_STATUS:
                problem = f"HTTP {response.status_code}: {response.text[:160]}"
                pause = max(pause, _retry_after(response))
                continue
            if response.status_code >= 400:  # a wrong key, model or request: another attempt would not help
                raise EndpointError(f"{self.url}: HTTP {response.status_code}: {response.text[:200]}")
            try:
                data = response.json()
            except ValueError:
                problem = f"a response that is not JSON: {response.text[:160]!r}"
                continue
            state.failures = 0
            return data, _usage(data)
        state.failures += 1
        state.last_error = problem
        if state.failures >= DOWN_AFTER:
            state.down_until, state.failures = time.monotonic() + DOWN_FOR_S, 0
        raise EndpointError(f"{self.url}: {problem}, after {self.tries} attempts")

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            key = os.environ.get(self.key_variable, "") if self.key_variable else ""
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s)),
                headers={"authorization": f"Bearer {key}"} if key else {},
                limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            )
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(MAX_PAUSE_S, max(0.0, float(response.headers.get("retry-after", ""))))
    except ValueError:
        return 0.0


def _usage(data: Any) -> Usage:
    usage = data.get("usage") if isinstance(data, dict) else None
    counts = [
        value if isinstance(value := (usage or {}).get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return Usage(1, *counts)
