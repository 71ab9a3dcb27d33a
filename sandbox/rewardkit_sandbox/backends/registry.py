"""Backends: the two that come along, and those that other distributions offer under an entry point."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Protocol

from rewardkit_sandbox.errors import SandboxError, Unavailable

if TYPE_CHECKING:
    from rewardkit_sandbox.sandbox import Sandbox
    from rewardkit_sandbox.types import Limits

GROUP = "rewardkit_sandbox.backends"
"""The entry-point group: the name is what `open_sandbox` is given, the object an `Opener`."""
BUILT_IN = ("docker", "bubblewrap")


class Opener(Protocol):
    """What an entry point names."""

    def __call__(
        self, *, slots: int, image: str, limits: Limits, runtime: str | None, preimport: tuple[str, ...] | None
    ) -> Sandbox:
        """A sandbox with its boxes warm: usually a `Sandbox` over a `Pool` of a `Backend` of its own.

        Raises:
            Unavailable: it can't be opened here; the message says what to do.
        """


def names() -> list[str]:
    """What `open_sandbox` takes beside `auto`: the built-in backends, then the others by name."""
    return [*BUILT_IN, *sorted(_found().keys() - set(BUILT_IN))]


def _found() -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        known = found.setdefault(point.name, [])
        # A source folder on sys.path shows the installed distribution a second time.
        if all((other.value, _whose(other)) != (point.value, _whose(point)) for other in known):
            known.append(point)
    return found


def _whose(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def opener(name: str) -> Opener:
    """The function that opens a third-party backend.

    Raises:
        ValueError: nobody offers one of that name; the message lists those there are.
        Unavailable: it can't be loaded, or two distributions offer it.
    """
    points = _found().get(name, [])
    if not points:
        raise ValueError(f"unknown backend {name!r}; there are auto, {', '.join(names())}")
    if len(points) > 1:
        raise Unavailable(
            f"the backend {name!r} is offered twice, by {' and '.join(map(_whose, points))}; uninstall one"
        )
    try:
        loaded: Opener = points[0].load()
    # The boundary: importing what others wrote may raise anything.
    except Exception as error:
        raise Unavailable(
            f"the backend {name!r} of {_whose(points[0])} can't be loaded: {type(error).__name__}: {error}"
        ) from error

    def guarded(
        *, slots: int, image: str, limits: Limits, runtime: str | None, preimport: tuple[str, ...] | None
    ) -> Sandbox:
        try:
            return loaded(slots=slots, image=image, limits=limits, runtime=runtime, preimport=preimport)
        except (SandboxError, ValueError):
            raise
        # As above: an opener that raises anything else is a sandbox that can't be opened.
        except Exception as error:
            message = f"the backend {name!r} of {_whose(points[0])} failed: {type(error).__name__}: {error}"
            raise Unavailable(message) from error

    return guarded
