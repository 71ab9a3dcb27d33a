"""Rewards from services over HTTP: rewardkit's own, and remote reward models in OpenRLHF's format. They need httpx."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args

from annotated_types import Gt

from rewardkit.authoring import FieldName, reward
from rewardkit.types import RETRYABLE, CallLimits, Rollout, Score, Unscored, UnscoredKind

if TYPE_CHECKING:
    import httpx

TOKEN = "REWARDKIT_SERVE_TOKEN"  # noqa: S105 - the name of a variable
_REFUSED = frozenset({400, 401, 403, 404, 405, 415})
"""HTTP status codes of a wrong address, token or request, which another try would not mend."""
_ROWS_AT_FAULT = frozenset({413, 422})
"""HTTP status codes of rows that the service can't use, or of too many rows."""

Result = Score | Unscored


def _limits(batch: int, params: Any) -> CallLimits:
    return CallLimits(endpoint=params.url, concurrency=16, batch=batch, tries=5, down_after=5)


def _version(params: Any) -> str | None:
    return params.version or None


class _Service:
    """Sends requests to one address. The client belongs to the event loop that first uses it."""

    def __init__(self, url: str, path: str, api_key: str, request_timeout: float) -> None:
        try:
            import httpx
        except ImportError:
            raise ValueError("rewards over HTTP need httpx: pip install 'rewardkit[http]'") from None
        address = httpx.URL(url)
        if address.scheme not in {"http", "https"} or not address.host:
            raise ValueError(f"url must be an address such as http://127.0.0.1:8077, not {url!r}")
        self._url = str(address.copy_with(path=path) if address.path in {"", "/"} and path else address)
        self._api_key = api_key
        self._timeout_s = request_timeout
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: bytes) -> httpx.Response:
        """Send a request. Network errors are raised as they are."""
        import httpx

        if self._client is None:
            key = os.environ.get(self._api_key, "") if self._api_key else ""
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s)),
                headers={"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})},
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            )
        return await self._client.post(self._url, content=body)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


class _Http:
    """Sends rows to a service that speaks the format of ``rewardkit serve``, and takes its rewards."""

    def __init__(
        self,
        *,
        url: str,
        api_key: str = TOKEN,
        request_timeout: Annotated[float, Gt(0)] = 120.0,
        version: str = "",
    ) -> None:
        del version  # part of the identity
        self._service = _Service(url, "/score", api_key, request_timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Result]:
        """Score a batch in one request."""
        found: list[Result | None] = [None] * len(rollouts)
        rows = []
        for index, rollout in enumerate(rollouts):
            try:
                rows.append(_encoded(rollout.to_row()))
            except (TypeError, ValueError, RecursionError) as error:
                found[index] = Unscored("input", f"the row can't be sent as JSON: {error}")
        if rows:
            results = iter(await self._send(rows))
            found = [next(results) if item is None else item for item in found]
        return [item or Unscored("plugin", "the service gave too few results") for item in found]

    async def _send(self, rows: Sequence[str]) -> list[Result]:
        response = await self._service.post(f'{{"rows": [{",".join(rows)}]}}'.encode("utf-8", "surrogatepass"))
        if (refused := _refused(response, len(rows))) is not None:
            return refused
        response.raise_for_status()  # of several rows, each is sent again alone
        results = response.json().get("results")
        if not isinstance(results, list) or len(results) != len(rows):
            return [Unscored("plugin", f"the service did not answer with {len(rows)} results")] * len(rows)
        return [_result(item) for item in results]


@reward(
    "http",
    executor="async",
    deterministic=True,
    identity=_version,
    limits=partial(_limits, 64),
    example='remote: {use: http, with: {url: "http://127.0.0.1:8077"}, limits: {batch: 64, concurrency: 16, tries: 5}}',
)
class Http(_Http):
    """The reward that a service gives, in the format of ``rewardkit serve``.

    Whole rows are sent. The kinds of unscored rollouts are kept. Each component of the service's reward is a metric.

    Args:
        url: The address, such as http://127.0.0.1:8077; without a path, /score is added.
        api_key: The environment variable that holds the token. Without a value, no token is sent.
        request_timeout: Seconds that one request may take.
        version: Names the service's reward, such as its reward_id. With it, the cache keeps scores between runs.
    """


@reward(
    "http.group",
    executor="async",
    scope="group",
    deterministic=True,
    identity=_version,
    limits=partial(_limits, 1),
    example='remote: {use: http.group, with: {url: "http://127.0.0.1:8077"}}',
)
class HttpGroup(_Http):
    """The reward of a service that compares the rollouts of a group: each request holds one whole group.

    Whole rows are sent. The kinds of unscored rollouts are kept. Each component of the service's reward is a metric.

    Args:
        url: The address, such as http://127.0.0.1:8077; without a path, /score is added.
        api_key: The environment variable that holds the token. Without a value, no token is sent.
        request_timeout: Seconds that one request may take.
        version: Names the service's reward, such as its reward_id. With it, the cache keeps scores between runs.
    """


@reward(
    "openrlhf.url",
    executor="async",
    deterministic=True,
    identity=_version,
    limits=partial(_limits, 1),
    example='remote: {use: openrlhf.url, with: {url: "http://127.0.0.1:5000/get_reward", label: answer}}',
)
class OpenRlhf:
    """The reward of a remote reward model in OpenRLHF's format: ``query``, ``prompts`` and ``labels`` in, ``rewards`` out.

    The query is the prompt followed by the completion. Each of the service's ``extra_logs`` is a metric.

    Args:
        url: The address; OpenRLHF's own service answers at /get_reward.
        label: The column that is sent as the label; none by default.
        api_key: The environment variable that holds the token. Without a value, no token is sent.
        request_timeout: Seconds that one request may take.
        version: Names the remote model. With it, the cache keeps scores between runs.
    """

    def __init__(
        self,
        *,
        url: str,
        label: FieldName | None = None,
        api_key: str = TOKEN,
        request_timeout: Annotated[float, Gt(0)] = 180.0,
        version: str = "",
    ) -> None:
        del version  # part of the identity
        self._service = _Service(url, "", api_key, request_timeout)
        self._label = label

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Result]:
        """Score a batch in one request."""
        body = {
            "query": [rollout.prompt_text + rollout.completion_text for rollout in rollouts],
            "prompts": [rollout.prompt_text for rollout in rollouts],
            "labels": [rollout.to_row().get(self._label) if self._label else None for rollout in rollouts],
        }
        try:
            text = _encoded(body)
        except (TypeError, ValueError, RecursionError) as error:
            if len(rollouts) > 1:
                raise
            return [Unscored("input", f"the row can't be sent as JSON: {error}")]
        response = await self._service.post(text.encode("utf-8", "surrogatepass"))
        if (refused := _refused(response, len(rollouts))) is not None:
            return refused
        if (unscored := _unscored(response)) is not None:
            if len(rollouts) > 1:  # which of them it is, only single requests can tell
                return [result for rollout in rollouts for result in await self([rollout])]
            if unscored.kind not in RETRYABLE:
                return [unscored]
        response.raise_for_status()
        return _rewards(response.json(), len(rollouts))


def _encoded(value: Any) -> str:
    """Return JSON in ASCII. Raises TypeError or ValueError for what JSON lacks, such as NaN."""
    return json.dumps(value, allow_nan=False)


def _refused(response: httpx.Response, count: int) -> list[Result] | None:
    """Return the results of a request that another try would not mend; None for another answer, and if one of several rows is at fault."""
    message = f"{response.url} refused the request: HTTP {response.status_code}: {response.text[:200]}"
    if response.status_code in _REFUSED:
        return [Unscored("plugin", message)] * count
    if response.status_code in _ROWS_AT_FAULT and count == 1:
        return [Unscored("input", message)]
    return None


def _result(item: Any) -> Result:
    """Return one result of a service."""
    if not isinstance(item, Mapping):
        return Unscored("plugin", "the service gave a result that is no object")
    unscored = item.get("unscored")
    if isinstance(unscored, Mapping):
        message = f"the service could not score it: {unscored.get('message')}"
        return Unscored(_kind(unscored.get("kind")) or "plugin", message)
    value = item.get("reward")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Unscored("plugin", f"the service gave the reward {value!r}, which is no number")
    parts = item.get("components")
    parts = parts if isinstance(parts, Mapping) else {}
    metrics = {
        str(name): float(part["value"])
        for name, part in parts.items()
        if isinstance(part, Mapping) and isinstance(part.get("value"), int | float)
    }
    reasons = [
        f"{name}: {part['reason']}" for name, part in parts.items() if isinstance(part, Mapping) and part.get("reason")
    ]
    return Score(float(value), "; ".join(reasons)[:300], metrics=metrics or None)


def _unscored(response: httpx.Response) -> Unscored | None:
    """Return why a service of rewardkit could not score, as its answer to OpenRLHF's protocol says; None otherwise."""
    if response.status_code != 503:
        return None
    try:
        data = response.json()
    except ValueError:
        return None
    kind = _kind(data.get("kind")) if isinstance(data, Mapping) else None
    return None if kind is None else Unscored(kind, str(data.get("error")))


def _kind(name: Any) -> UnscoredKind | None:
    """Return a kind of failure, or None if it is unknown."""
    return next((kind for kind in get_args(UnscoredKind) if kind == name), None)


def _rewards(data: Any, count: int) -> list[Result]:
    """Return the results in an answer of OpenRLHF's format: a list of numbers, or one number for one rollout."""
    values = data.get("rewards") if isinstance(data, Mapping) else data
    values = _flat(values)
    if len(values) != count:
        return [Unscored("plugin", f"the service gave {len(values)} rewards for {count} rollouts")] * count
    logs = data.get("extra_logs") if isinstance(data, Mapping) else None
    columns = {str(name): _flat(column) for name, column in logs.items()} if isinstance(logs, Mapping) else {}
    results: list[Result] = []
    for index, value in enumerate(values):
        if value is None:
            results.append(Unscored("infra", "the service gave no reward"))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            results.append(Unscored("plugin", f"the service gave the reward {value!r}, which is no number"))
        else:
            metrics = {
                name: float(column[index])
                for name, column in columns.items()
                if len(column) == count and isinstance(column[index], int | float)
            }
            results.append(Score(float(value), metrics=metrics or None))
    return results


def _flat(values: Any) -> list[Any]:
    """Return numbers as a flat list: services answer with a number, a list, or a list of lists of one."""
    if not isinstance(values, list):
        return [values]
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in values]
