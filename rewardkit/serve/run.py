"""Loads a reward and runs the service until SIGTERM or Ctrl-C, which answers what is in flight and then ends."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from rewardkit.composite import CompositeReward, ScoreCache
from rewardkit.config.reading import read_config
from rewardkit.errors import UsageError
from rewardkit.interrupts import answering
from rewardkit.registry import Registry
from rewardkit.scoring.engines.chunk_scorer import rare_garbage_collection
from rewardkit.serve.app import LOOPBACK, Service, Settings, application

GRACE_S = 120
"""Seconds that a stopping service gives the requests in flight; each is answered, if only with an error."""


def load(
    file: Path, registry: Registry, *, workers: int | None = None, cache: ScoreCache | None = None
) -> CompositeReward:
    """Load a reward to be served.

    The policy ``fail`` applies to each request by itself, so the reward is built without it; its ``reward_id`` stays the same.

    Raises:
        ConfigError: The file is wrong.
    """
    config = read_config(file, registry)
    if config.policy == "fail":
        config = dataclasses.replace(config, policy="exclude")
    return CompositeReward(config, registry=registry, workers=workers, cache=cache)


def with_token(settings: Settings, host: str) -> tuple[Settings, bool]:
    """Return settings with a new token where the address is not of the loopback interface and none is given; and whether it is new."""
    if settings.token or host in LOOPBACK:
        return settings, False
    return dataclasses.replace(settings, token=secrets.token_urlsafe(24)), True


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        UsageError: It can't be opened.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"can't listen on {host} port {port}: {error.strerror or error}; choose another --port or --host"
        ) from None


def serve(
    reward: CompositeReward, settings: Settings, sock: socket.socket, started: Callable[[], None] = lambda: None
) -> None:
    """Answer requests until SIGTERM or Ctrl-C. What is in flight is answered; a second signal ends at once.

    Args:
        reward: The reward, as `load` returned it. It stays open.
        settings: How it is served.
        sock: The open port.
        started: Called once requests are answered.
    """
    app = application(reward, settings)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        server_header=False,
        backlog=2048,
    )
    with rare_garbage_collection():
        _Server(config, app.state.service, started).run(sockets=[sock])


class _Server(uvicorn.Server):
    """A server that tells when it starts, and whose process goes on after a signal has stopped it."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: object) -> None:
            self._service.stopping = True
            self.force_exit = self.should_exit
            self.should_exit = True

        with answering(stop, signal.SIGTERM, signal.SIGINT):
            yield
