"""The ASGI application: routes, access, limits and errors.

A request must carry the token (if there is one), be JSON, and name a host that the service goes by. A web page that a browser on this
machine shows can do none of that: it doesn't know the token, JSON to another origin needs a permission that is never given, and a name
that an attacker's DNS points here is not one of the service's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewardkit.composite import CompositeReward
from rewardkit.errors import RewardkitError, UsageError
from rewardkit.integrations.common import label_column, refuse_unknown, token_counter
from rewardkit.serve import contracts, openapi
from rewardkit.serve.batcher import Batcher, BusyError
from rewardkit.serve.contracts import BadRequestError, UnansweredError, encode
from rewardkit.serve.metrics import CONTENT_TYPE, Metrics
from rewardkit.types import Rollout, ScoredRollout

T = TypeVar("T")
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = frozenset({"/health", "/ready"})
"""Paths that probes reach without a token."""
JSON = "application/json"
LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
SMALL_BODY = 16_384
"""Bytes of a body that is read on the event loop: handing it to a thread would take longer than reading it."""
BODIES_IN_FLIGHT = 4
"""Bodies of the largest size that may be held at the same time."""
RETRY_AFTER_S = 2
MAX_STEP_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the service."""

    token: str | None = None
    """The token that requests must carry; None accepts all."""
    hosts: Sequence[str] = ()
    """Names under which clients reach the service, beside those of the loopback interface. ``*`` accepts any."""
    max_body_bytes: int = 32 << 20
    max_rollouts: int = 8192
    """Rollouts in flight."""
    retry_for_s: float = 60.0
    """The time for which the protocols without a word for "not scored" keep scoring again what a service or a time-out left unscored."""
    label: str | None = None
    """The column that a plain label stands for."""
    tokenizer: Any = None
    """What counts the tokens of completions for protocols that don't tell their number; see `token_counter`."""
    mask_unscored: bool = False
    """Answer NeMo-Gym with ``mask_sample`` where a rollout is unscored, instead of an error."""


@dataclass
class Service:
    """A reward being served, and what the routes share."""

    reward: CompositeReward
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    body_bytes: int = 0
    """Bytes of the bodies that are held."""

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.reward, self.settings.max_rollouts, self.metrics.batch)
        self.metrics.watch(self.batcher)
        self.count = None if self.settings.tokenizer is None else token_counter(self.settings.tokenizer)
        self.refusals = {
            "/get_reward": self.refusal(tokens=True),
            "/slime": self.refusal(tokens=True),
            "/verify": self.refusal(),
        }
        """For each protocol that gives one rollout at a time: why this reward can't be served by it, or None."""

    def refusal(self, *, tokens: bool = False) -> str | None:
        """Return why a protocol that gives one rollout at a time can't serve this reward, or None."""
        if self.reward.config.needs_groups:
            return "this reward compares the rollouts of a group, and this protocol gives one at a time: use /score"
        if not tokens:
            return None
        try:
            refuse_unknown(self.reward, "this protocol", self.settings.tokenizer)
            label_column(self.reward, self.settings.label)
        except UsageError as error:
            return str(error)
        return None

    async def body(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            BadRequestError: It is too large.
            BusyError: Too many bytes are in flight.
        """
        most = self.settings.max_body_bytes
        too_large = BadRequestError(f"the body is larger than {most:,} bytes: send fewer rows at a time", 413)
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most:
            raise too_large
        parts, size = [], 0
        try:
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                self.body_bytes += len(part)
                if size > most:
                    raise too_large
                if self.body_bytes > BODIES_IN_FLIGHT * most:
                    raise BusyError("too many bytes are in flight", RETRY_AFTER_S)
        finally:
            self.body_bytes -= size
        return b"".join(parts)

    async def parsed(self, body: bytes, parse: Callable[[bytes], T]) -> T:
        """Parse a body, off the event loop unless it is small."""
        return parse(body) if len(body) <= SMALL_BODY else await asyncio.to_thread(parse, body)

    def admit(self, rollouts: Sequence[Rollout]) -> None:
        """Refuse more rollouts than can ever be in flight.

        Raises:
            BadRequestError: There are too many.
        """
        if len(rollouts) > self.settings.max_rollouts:
            raise BadRequestError(
                f"{len(rollouts):,} rollouts in one request; at most {self.settings.max_rollouts:,} may be in flight",
                413,
            )

    async def one_by_one(
        self,
        request: Request,
        read: Callable[[bytes], tuple[Any, list[Rollout]]],
        answer: Callable[[Any, list[ScoredRollout]], bytes],
    ) -> Response:
        """Answer a protocol that has no word for "not scored"."""
        if why := self.refusals[request.url.path]:
            raise BadRequestError(why, 409)
        data, rollouts = await self.parsed(await self.body(request), read)
        self.admit(rollouts)

        def finish(scored: list[ScoredRollout]) -> bytes:
            self.metrics.scored(scored)
            return answer(data, scored)

        found = await self.batcher.score_until(rollouts, self.settings.retry_for_s, finish)
        return Response(found, media_type=JSON)


def application(reward: CompositeReward, settings: Settings) -> FastAPI:
    """Return the application. The reward stays open when it ends.

    Args:
        reward: The reward. Its policy must not be ``fail``; see `rewardkit.serve.run.load`.
        settings: How it is served.
    """
    service = Service(reward, settings)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.batcher.close()

    app = FastAPI(
        title="rewardkit",
        description=f"Scores rollouts with {reward.config.file} (reward_id {reward.reward_id}).",
        version="1",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    _add_own_routes(app, service)
    _add_protocols(app, service)
    app.add_exception_handler(RewardkitError, _own_error)
    app.add_exception_handler(HTTPException, _http_error)
    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", None)))
    app.add_middleware(_Access, service=service, paths=paths)
    return app


def _post(app: FastAPI, path: str, **described: Any) -> Callable[[Endpoint], Endpoint]:
    """Add a route for POST. FastAPI describes it; Starlette calls it, which takes half the time where nothing is to be injected."""

    def add(endpoint: Endpoint) -> Endpoint:
        first = sum(not isinstance(route, APIRoute) for route in app.router.routes)
        app.router.routes.insert(first, Route(path, endpoint, methods=["POST"], include_in_schema=False))
        app.add_api_route(path, endpoint, methods=["POST"], **described)
        return endpoint

    return add


def _step(text: str) -> int:
    """Return the training step that a query names.

    Raises:
        BadRequestError: It is no whole number from 0 on.
    """
    if not text.isascii() or not text.isdigit() or len(text) > MAX_STEP_DIGITS:
        raise BadRequestError(f"the query parameter 'step' must be a whole number from 0 on, not {text[:40]!r}")
    return int(text)


def _add_own_routes(app: FastAPI, service: Service) -> None:
    reward = service.reward

    @_post(
        app,
        "/score",
        summary="Score rows as `rewardkit score` does.",
        responses=openapi.responses(openapi.SCORE_ANSWER, 400, 401, 403, 413, 415, 422, 429, 503),
        openapi_extra={**openapi.body(openapi.SCORE_BODY), **openapi.STEP},
    )
    async def score(request: Request) -> Response:
        step = _step(request.query_params.get("step", "0"))
        as_lines = _content_type(request.headers.get("content-type", "")) in LINES
        body = await service.body(request)
        batch = await service.parsed(body, lambda data: contracts.read_batch(data, reward, as_lines=as_lines))
        service.admit(batch.rollouts)

        def finish(scored: list[ScoredRollout]) -> bytes:
            service.metrics.scored(scored)
            return batch.answer(reward, scored)

        found = await service.batcher.score(batch.rollouts, step, finish)
        return Response(found, media_type="application/x-ndjson" if as_lines else JSON)

    @app.get("/health", summary="Tell that the process runs.", responses=openapi.responses(None, 403))
    async def health() -> Response:
        return Response(encode({"status": "ok"}), media_type=JSON)

    @app.get("/ready", summary="Tell whether requests are welcome.", responses=openapi.responses(None, 403, 503))
    async def ready() -> Response:
        if service.stopping:
            return _error(503, "the service is stopping", retry_after_s=RETRY_AFTER_S)
        return Response(encode({"status": "ready", "reward_id": reward.reward_id}), media_type=JSON)

    @app.get("/metrics", summary="Prometheus metrics.", responses=openapi.responses(None, 401, 403))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_protocols(app: FastAPI, service: Service) -> None:
    reward, settings = service.reward, service.settings
    column = settings.label or "answer"
    with contextlib.suppress(UsageError):
        column = label_column(reward, settings.label)
    statuses = (400, 401, 403, 409, 413, 415, 422, 429, 503)

    @_post(
        app,
        "/get_reward",
        summary="OpenRLHF's remote reward.",
        responses=openapi.responses(openapi.OPENRLHF_ANSWER, *statuses),
        openapi_extra=openapi.body(openapi.OPENRLHF_BODY),
    )
    async def openrlhf(request: Request) -> Response:
        return await service.one_by_one(
            request,
            lambda body: (None, contracts.read_openrlhf(body, reward, column, service.count)),
            lambda _, scored: contracts.answer_openrlhf(scored),
        )

    @_post(
        app,
        "/slime",
        summary="slime's remote_rm.",
        responses=openapi.responses(openapi.SLIME_ANSWER, *statuses),
        openapi_extra=openapi.body(openapi.SLIME_BODY),
    )
    async def slime(request: Request) -> Response:
        return await service.one_by_one(
            request,
            lambda body: (None, contracts.read_slime(body, reward, column, service.count)),
            lambda _, scored: contracts.answer_slime(scored),
        )

    @_post(
        app,
        "/verify",
        summary="NeMo-Gym's verify.",
        responses=openapi.responses(openapi.GYM_ANSWER, *statuses),
        openapi_extra=openapi.body(openapi.GYM_BODY),
    )
    async def verify(request: Request) -> Response:
        return await service.one_by_one(
            request,
            lambda body: contracts.read_gym(body, reward),
            lambda data, scored: contracts.answer_gym(data, scored, mask=settings.mask_unscored),
        )

    @_post(
        app,
        "/seed_session",
        summary="NeMo-Gym's start of a session; nothing is kept.",
        responses=openapi.responses(openapi.SEED_ANSWER, 400, 401, 403, 413, 415, 503),
        openapi_extra=openapi.body(openapi.SEED_BODY),
    )
    async def seed_session(request: Request) -> Response:
        data = await service.parsed(await service.body(request), contracts.parse_object)
        kept = {name: data[name] for name in ("resources_session_id",) if name in data}
        return Response(encode(kept), media_type=JSON)

    @_post(
        app,
        "/aggregate_metrics",
        summary="NeMo-Gym's aggregate of verify answers.",
        responses=openapi.responses(openapi.AGGREGATE_ANSWER, 400, 401, 403, 413, 415, 422, 503),
        openapi_extra=openapi.body(openapi.AGGREGATE_BODY),
    )
    async def aggregate(request: Request) -> Response:
        found = await service.parsed(await service.body(request), contracts.aggregate_gym)
        return Response(found, media_type=JSON)


class _Access:
    """Refuses what may not be read, and counts what is answered."""

    def __init__(self, app: ASGIApp, service: Service, paths: frozenset[str]) -> None:
        self._app = app
        self._paths = paths
        self._service = service
        settings = service.settings
        self._hosts = {name.lower() for name in (*LOOPBACK, *settings.hosts)}
        self._token = settings.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refuse(scope)
            await (refused(scope, receive, sending) if refused else self._app(scope, receive, sending))
        finally:
            route = scope["path"] if scope["path"] in self._paths else "other"
            self._service.metrics.answered(route, status, time.perf_counter() - begin)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that must not be read; None if it may."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = _host(headers.get(b"host", ""))
        if host not in self._hosts and "*" not in self._hosts:
            return _error(403, f"unknown host {host!r}: start the service with --allow-host {host}")
        if self._token and scope["path"] not in OPEN_PATHS:
            given = _given_token(headers.get(b"authorization", ""))
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                answer = _error(
                    401,
                    "the token is missing or wrong: send 'Authorization: Bearer TOKEN', or http://rewardkit:TOKEN@host",
                )
                answer.headers["www-authenticate"] = "Bearer"
                return answer
        kind = _content_type(headers.get(b"content-type", ""))
        if scope["method"] == "POST" and kind != JSON and not (scope["path"] == "/score" and kind in LINES):
            return _error(
                415,
                f"the Content-Type must be {JSON}" + (" or application/x-ndjson" if scope["path"] == "/score" else ""),
            )
        return None


def _content_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _host(header: str) -> str:
    """Return the host that a request names, without its port."""
    host = header.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _given_token(header: str) -> str:
    """Return the token of a header: Bearer, or the password of Basic, which clients send for ``http://name:TOKEN@host``."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value).decode().partition(":")[2]
    return ""


def _error(status: int, message: str, *, retry_after_s: int | None = None, **more: Any) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(encode({"error": message, **more}), status, headers, JSON)


async def _own_error(_: Request, error: Exception) -> Response:
    match error:
        case BadRequestError():
            rows: list[Any] = [{"row": row, "reason": reason} for row, reason in error.rows]
            return _error(error.status, str(error), rows=rows) if rows else _error(error.status, str(error))
        case BusyError():
            return _error(429, str(error), retry_after_s=error.retry_after_s)
        case UnansweredError():
            return _error(503, str(error), retry_after_s=RETRY_AFTER_S, kind=error.unscored.kind)
        case _:
            return _error(503, f"nothing was scored: {error}", retry_after_s=RETRY_AFTER_S)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    answer = _error(error.status_code, str(error.detail))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
