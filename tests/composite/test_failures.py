"""A network error is the failure of a service; anything else that a reward raises is its own fault."""

import asyncio
import errno
import http.client
import socket
import ssl
import urllib.error

import pytest

from rewardkit.composite.failures import describe_raised, kind_of

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
requests = pytest.importorskip("requests", reason="requests is not installed")


def named(module: str, name: str, base: type[BaseException] = Exception) -> type[BaseException]:
    """Return an exception class as a package that is not installed defines it."""
    return type(name, (base,), {"__module__": module})


def with_status(error: BaseException, status: int) -> BaseException:
    """Return an error that carries an HTTP status."""
    error.status_code = status  # type: ignore[attr-defined]
    return error


def http_status(status: int) -> BaseException:
    """Return what httpx raises for a status."""
    request = httpx.Request("GET", "http://x")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


def requests_status(status: int) -> BaseException:
    """Return what requests raises for a status."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("x", response=response)


OpenAIError = named("openai", "OpenAIError")
APIError = named("openai", "APIError", OpenAIError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        socket.gaierror(-2, "Name or service not known"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        ssl.SSLError("handshake"),
        ssl.SSLCertVerificationError("expired"),
        http.client.RemoteDisconnected(),
        http.client.IncompleteRead(b""),
        http.client.BadStatusLine("x"),
        asyncio.IncompleteReadError(b"", 3),
        urllib.error.URLError("refused"),
        urllib.error.HTTPError("http://x", 503, "unavailable", None, None),  # type: ignore[arg-type]
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx.RemoteProtocolError("x"),
        http_status(429),
        http_status(500),
        http_status(401),
        requests.ConnectionError(),
        requests.Timeout(),
        requests_status(502),
        named(
            "aiohttp.client_exceptions", "ServerDisconnectedError", named("aiohttp.client_exceptions", "ClientError")
        )(),
        with_status(named("openai", "RateLimitError", APIError)(), 429),
        named("openai", "APITimeoutError", APIError)(),
        named("anthropic", "APIConnectionError", named("anthropic", "APIError"))(),
        named("grpc.aio._call", "AioRpcError", named("grpc", "RpcError"))(),
        named("websockets.exceptions", "ConnectionClosed", named("websockets.exceptions", "WebSocketException"))(),
        named("botocore.exceptions", "EndpointConnectionError", named("botocore.exceptions", "BotoCoreError"))(),
        ExceptionGroup("tasks", [ConnectionError(), TimeoutError()]),
    ],
)
def test_network_errors(error: BaseException) -> None:
    """Errors of sockets, HTTP clients and SDKs are ``infra``, known by their base classes, installed or not."""
    assert kind_of(error) == "infra"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        AssertionError(),
        MemoryError(),
        EOFError(),
        asyncio.CancelledError(),
        FileNotFoundError(errno.ENOENT, "No such file", "words.txt"),
        PermissionError(),
        IsADirectoryError(),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "y"),
        urllib.error.HTTPError("http://x", 404, "not found", None, None),  # type: ignore[arg-type]
        httpx.InvalidURL("x"),
        http_status(400),
        http_status(422),
        requests_status(413),
        requests.exceptions.InvalidURL(),
        requests.exceptions.MissingSchema(),
        with_status(named("openai", "BadRequestError", APIError)(), 400),
        named("acme", "ConnectionError")(),
        named("aiohttp_client", "ClientError")(),
        ExceptionGroup("tasks", [ConnectionError(), ValueError()]),
    ],
)
def test_other_errors(error: BaseException) -> None:
    """A missing file, a malformed address and a refused request are ``plugin``, like everything else."""
    assert kind_of(error) == "plugin"


def test_causes_count() -> None:
    """An error that was explicitly raised from a network error is one, at any depth; a circle of causes ends."""
    outer = RuntimeError("the judge failed")
    outer.__cause__ = ValueError("no answer")
    outer.__cause__.__cause__ = ConnectionError()
    assert kind_of(outer) == "infra"
    outer.__cause__.__cause__ = outer
    assert kind_of(outer) == "plugin"


def test_an_error_that_was_handled_does_not_count() -> None:
    """An error raised while a network error is handled is its own, unless it says ``from``."""
    error = IndexError()
    error.__context__ = ConnectionError()
    assert kind_of(error) == "plugin"


def test_the_message_names_the_reward_and_the_error() -> None:
    """The message has the reward, the class and the text; the traceback is kept."""
    found = describe_raised(ConnectionRefusedError(111, "Connection refused"), "judge (acme 1.0)")
    assert (found.kind, found.message) == (
        "infra",
        "judge (acme 1.0) raised ConnectionRefusedError: [Errno 111] Connection refused",
    )
    assert found.traceback is not None
