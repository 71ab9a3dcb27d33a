"""The HTTP interface of the viewer, for this machine's browser alone.

Every address begins with a token that only the one who started the viewer knows. Requests under another host name are refused, so that
a page of another site can't reach the viewer by pointing a name at this machine (DNS rebinding). Nothing can be changed through it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rewardkit.errors import DataError, UsageError
from rewardkit.view import queries
from rewardkit.view.adapters import runs
from rewardkit.view.columns import read_filters
from rewardkit.view.details import detail
from rewardkit.view.sources import Source, Sources

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MOST_TEXT = 2_000
"""Characters of a request's search and of each filter."""


def application(sources: Sources, token: str) -> ASGIApp:
    """Return the application.

    Args:
        sources: What it shows.
        token: The first part of every address.
    """
    api = _Api(sources)
    routes = [
        Route("/api/state", _answer(api.state)),
        Route("/api/{source:int}/rows", _answer(api.rows)),
        Route("/api/{source:int}/row/{row:int}", _answer(api.row)),
        Route("/api/{source:int}/groups", _answer(api.groups)),
        Route("/api/{source:int}/summary", _answer(api.summary)),
        Route("/api/{source:int}/metrics", _answer(api.metrics)),
        Route("/api/compare/{source:int}/{other:int}", _answer(api.compare)),
        Route("/{name:path}", _static),
    ]
    return _Guard(Starlette(routes=routes), token)


class _Guard:
    """Refuses requests with another host name, without the token, or of a method that could change something."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._prefix = f"/{token}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        path = scope["path"]
        if name not in HOSTS:
            response = _error(421, "this viewer answers under the names 127.0.0.1 and localhost only")
        elif scope["method"] not in {"GET", "HEAD"}:
            response = _error(405, "this viewer is read only")
        elif not secrets.compare_digest(path[: len(self._prefix)].encode(), self._prefix.encode()):
            response = _error(403, "the address lacks the token that `rewardkit view` printed")
        else:
            rest = path[len(self._prefix) - 1 :]
            await self._app({**scope, "path": rest, "raw_path": rest.encode()}, receive, send)
            return
        await response(scope, receive, send)


class _Api:
    """The answers to requests. Each runs in a thread of its own."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def state(self, request: Request) -> dict[str, Any]:  # noqa: ARG002 - one signature for all
        """Read what files have gained, and describe all sources."""
        problem = ""
        try:
            self._sources.poll()
        except DataError as error:
            problem = str(error)
        return {"sources": [source.described() for source in self._sources.sources], "problem": problem}

    def rows(self, request: Request) -> dict[str, Any]:
        source = self._source(request)
        return queries.page(self._sources.database, source.relation, **_choice(request), **_page(request))

    def row(self, request: Request) -> dict[str, Any]:
        source = self._source(request)
        return detail(self._sources.database, source.relation, request.path_params["row"])

    def groups(self, request: Request) -> dict[str, Any]:
        source = self._source(request)
        return queries.groups(self._sources.database, source.relation, **_choice(request), **_page(request))

    def summary(self, request: Request) -> dict[str, Any]:
        source = self._source(request)
        return queries.summary(self._sources.database, source.relation, **_choice(request))

    def metrics(self, request: Request) -> dict[str, Any]:
        source = self._source(request)
        if source.kind != "training run":
            raise UsageError(f"{source.title} is a {source.kind}, which has no training curves")
        return runs.metrics(source.path)

    def compare(self, request: Request) -> dict[str, Any]:
        first, second = self._source(request), self._source(request, "other")
        return queries.compare(self._sources.database, first.relation, second.relation, **_page(request))

    def _source(self, request: Request, name: str = "source") -> Source:
        index = int(request.path_params[name])
        if index >= len(self._sources.sources):
            raise UsageError(f"there is no file or run number {index + 1}")
        return self._sources.sources[index]


def _choice(request: Request) -> dict[str, Any]:
    """Return which rows a request chooses."""
    query = request.query_params
    texts = [text[:MOST_TEXT] for text in query.getlist("f")]
    return {"filters": read_filters(texts), "search": query.get("q", "")[:MOST_TEXT]}


def _page(request: Request) -> dict[str, Any]:
    query = request.query_params
    return {
        "sort": query.get("sort", ""),
        "offset": _whole(query, "offset", 0),
        "limit": _whole(query, "limit", 50),
    }


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise UsageError(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


def _answer(compute: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            found = await run_in_threadpool(compute, request)
        except UsageError as error:
            return _error(400, str(error))
        except DataError as error:
            return _error(500, str(error))
        return _json(200, found)

    return respond


def _json(status: int, content: Any) -> Response:
    body = orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, HEADERS, "application/json")


def _error(status: int, message: str) -> Response:
    return _json(status, {"error": message})


async def _static(request: Request) -> Response:
    """Return a file of the page. Only names that were built are known, so no path leads elsewhere."""
    name = request.path_params["name"] or "index.html"
    folder = files("rewardkit.view") / "static"
    built = {item.name: item for item in folder.iterdir() if item.is_file()}
    suffix = name[name.rfind(".") :]
    if name not in built or suffix not in TYPES:
        return _error(404, "there is no such page")
    return Response(built[name].read_bytes(), 200, HEADERS, TYPES[suffix])
