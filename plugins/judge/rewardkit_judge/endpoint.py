"""Calls an OpenAI-compatible endpoint: limits, retries, and a pause when it is down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from rewardkit import CallLimits
from rewardkit.services.limits import RETRIED_STATUS, GaveUpError, TryAgainError, call, endpoint_of, retry_after_s

DOWN_AFTER = 5
"""Calls in a row that fail for good, after which the endpoint counts as down."""
DOWN_FOR_S = 30.0
"""Seconds for which an endpoint that is down is not called."""


class EndpointError(Exception):
    """The endpoint gave no response. The message says why and after how many attempts."""


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
    def _limits(self) -> CallLimits:
        return CallLimits(
            # Not the address alone: a reward file may give that to the component, which holds its turn while it asks.
            endpoint=f"{self.url}/chat/completions",
            concurrency=self.concurrency,
            tries=self.tries,
            down_after=DOWN_AFTER,
            down_for=DOWN_FOR_S,
        )

    async def chat(self, body: Mapping[str, Any]) -> tuple[Any, Usage]:
        """Ask for a chat completion.

        Args:
            body: The request.

        Returns:
            The response as JSON data, and what it cost.

        Raises:
            EndpointError: There was no response after all attempts, the request was refused, or the endpoint is down.
        """
        limits = self._limits
        try:
            return await call(limits, endpoint_of(limits), lambda: self._attempt(body))
        except GaveUpError as error:
            text = str(error)
            raise EndpointError(f"{self.url} {text}" if text.startswith("is down") else f"{self.url}: {text}") from None

    async def _attempt(self, body: Mapping[str, Any]) -> tuple[Any, Usage]:
        """Make one request.

        Raises:
            TryAgainError: Another attempt may succeed.
            EndpointError: The request was refused.
        """
        try:
            response = await self._open().post(f"{self.url}/chat/completions", json=body)
        except httpx.TimeoutException:
            raise TryAgainError(f"no response within {self.timeout_s:g} s") from None
        except httpx.TransportError as error:
            raise TryAgainError(f"{type(error).__name__}: {error}") from None
        if response.status_code in RETRIED_STATUS:
            raise TryAgainError(f"HTTP {response.status_code}: {response.text[:160]}", retry_after_s(response.headers))
        if response.status_code >= 400:  # a wrong key, model or request: another attempt would not help
            raise EndpointError(f"{self.url}: HTTP {response.status_code}: {response.text[:200]}")
        try:
            data = response.json()
        except ValueError:
            raise TryAgainError(f"a response that is not JSON: {response.text[:160]!r}") from None
        return data, _usage(data)

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


def _usage(data: Any) -> Usage:
    usage = data.get("usage") if isinstance(data, dict) else None
    counts = [
        value if isinstance(value := (usage or {}).get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return Usage(1, *counts)
