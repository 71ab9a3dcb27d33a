"""Calls an OpenAI-compatible endpoint: limits, retries, and a pause when it is down."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rewardkit import CallLimits
from rewardkit.toolkit import RETRIED_STATUS, GaveUpError, TryAgainError, call_service, retry_after_s
from rewardkit_judge.replies import without_duplicates

if TYPE_CHECKING:
    import httpx

DOWN_AFTER = 5
"""Calls in a row that fail for good, after which the endpoint counts as down."""
DOWN_FOR_S = 30.0
"""Seconds for which an endpoint that is down is not called."""
CONNECT_S = 10.0
"""Seconds that a connection may take."""
_NO_LIST = frozenset({404, 405, 501})
"""What endpoints answer that do not list their models."""
_SHOWN_MODELS = 8


class EndpointError(Exception):
    """The endpoint gave no response. The message says why and after how many attempts."""

    def __init__(self, message: str, kind: Literal["infra", "timeout"] = "infra") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
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

    def price(self, prices: Mapping[Any, float]) -> float:
        """Return the cost in money.

        Args:
            prices: Price of a million tokens: ``prompt``, ``completion``.
        """
        return (
            self.prompt_tokens * prices.get("prompt", 0.0) + self.completion_tokens * prices.get("completion", 0.0)
        ) / 1e6


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
        late = False

        async def attempt() -> tuple[Any, Usage]:
            nonlocal late
            late = False
            try:
                return await self._attempt(body)
            except _LateError:
                late = True
                raise

        try:
            return await call_service(self._limits, attempt)
        except GaveUpError as error:
            text = str(error)
            told = f"{self.url} {text}" if text.startswith("is down") else f"{self.url}: {text}"
            raise EndpointError(told, "timeout" if late else "infra") from None

    async def _attempt(self, body: Mapping[str, Any]) -> tuple[Any, Usage]:
        """Make one request.

        Raises:
            TryAgainError: Another attempt may succeed.
            EndpointError: The request was refused.
        """
        import httpx

        try:
            response = await self._open().post(f"{self.url}/chat/completions", json=body)
        except httpx.TimeoutException:
            raise _LateError(f"no response within {self.timeout_s:g} s") from None
        except httpx.RequestError as error:  # a broken connection, or a body that can't be decompressed
            raise TryAgainError(f"{type(error).__name__}: {error}") from None
        except httpx.InvalidURL as error:
            raise EndpointError(f"{self.url} is not an address: {error}") from None
        if response.status_code in RETRIED_STATUS:
            raise TryAgainError(f"HTTP {response.status_code}: {response.text[:160]}", retry_after_s(response.headers))
        if response.status_code >= 300:  # a wrong key, model or request: another attempt would not help
            raise EndpointError(f"{self.url}: HTTP {response.status_code}: {response.text[:200]}")
        try:
            data = response.json(object_pairs_hook=without_duplicates)
        except (ValueError, RecursionError):
            raise TryAgainError(f"a response that is not JSON: {response.text[:160]!r}") from None
        return data, _usage(data)

    def problem(self, model: str) -> str | None:
        """Ask the endpoint which models it has, and return why it can't be used; None if it can, or does not tell.

        Args:
            model: The model that is going to be asked.
        """
        import httpx

        url = f"{self.url}/models"
        limit = httpx.Timeout(min(CONNECT_S, self.timeout_s))
        try:
            response = httpx.get(url, timeout=limit, headers=self._headers())
        except httpx.TimeoutException:
            return f"{url} does not answer within {limit.read:g} s: is the server up, and url right?"
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return f"{url} can't be reached ({error}): start the server, or correct url"
        if response.status_code in _NO_LIST:
            return None
        if response.status_code in {401, 403}:
            name = f"the environment variable {self.key_variable}" if self.key_variable else "no key (api_key is empty)"
            has = "holds the key that was sent" if self._headers() else "has no value"
            named = f"{name} {has}" if self.key_variable else f"{name} was sent"
            return f"{url} answers HTTP {response.status_code}, which means a missing or wrong key: {named}"
        if response.status_code >= 500 or response.status_code == 429:
            return f"{url} answers HTTP {response.status_code}: {response.text[:160]!r}; is the server still starting?"
        known = _models(response)
        if known is None or model in known:
            return None
        close = difflib.get_close_matches(model, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known[:_SHOWN_MODELS]) or 'none'}"
        return f"{self.url} does not know the model {model!r}; {hint} (preflight: false uses the name as it is)"

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        return {"authorization": f"Bearer {key}"} if key else {}

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(self.timeout_s, connect=min(CONNECT_S, self.timeout_s)),
                headers=self._headers(),
                limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            )
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


class _LateError(TryAgainError):
    """An attempt took too long."""


def _usage(data: Any) -> Usage:
    usage = data.get("usage") if isinstance(data, dict) else None
    given = usage if isinstance(usage, dict) else {}
    counts = [
        value if type(value := given.get(name)) is int and value >= 0 else 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return Usage(1, *counts)


def _models(response: httpx.Response) -> list[str] | None:
    """Return the names in a list of models; None if the response is no such list."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        return None
    items = data.get("data") if isinstance(data, dict) else None
    if not isinstance(items, list):
        return None
    names = [item.get("id") for item in items if isinstance(item, dict)]
    return [name for name in names if isinstance(name, str)] if names or not items else None
