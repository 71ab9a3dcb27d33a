"""Opens files and runs the viewer until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from rewardkit.errors import UsageError
from rewardkit.interrupts import answering
from rewardkit.view.app import application
from rewardkit.view.sources import Sources

LOOPBACK = "127.0.0.1"


def new_token() -> str:
    """Return a token that can't be guessed."""
    return secrets.token_urlsafe(18)


def listen(port: int, *, any_other: bool) -> socket.socket:
    """Open a port of the loopback interface.

    Args:
        port: The port; 0 for any free one.
        any_other: Take any free port if this one is in use.

    Raises:
        UsageError: It can't be opened.
    """
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        if any_other:
            return listen(0, any_other=False)
        raise UsageError(f"can't listen on port {port}: {error.strerror or error}; choose another --port") from None


def serve(sources: Sources, token: str, sock: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Args:
        sources: What is shown.
        token: The first part of every address.
        sock: The open port.
        started: Called once requests are answered.
    """
    config = uvicorn.Config(
        application(sources, token),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        lifespan="off",
    )
    _Server(config, started).run(sockets=[sock])


class _Server(uvicorn.Server):
    """A server that tells when it starts, and whose process goes on after a signal has stopped it."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: object) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        with answering(stop, signal.SIGTERM, signal.SIGINT):
            yield
