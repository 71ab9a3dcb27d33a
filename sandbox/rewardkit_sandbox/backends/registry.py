"""The backends: those that come with this package, and those that other distributions offer."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rewardkit_sandbox.backends.bubblewrap import BubblewrapBackend
from rewardkit_sandbox.backends.docker import DockerBackend
from rewardkit_sandbox.backends.remote import RemoteBackend
from rewardkit_sandbox.errors import SandboxError, Unavailable
from rewardkit_sandbox.protocol import Sandbox, SandboxBackend, SandboxOptions
from rewardkit_sandbox.types import Property

GROUP = "rewardkit_sandbox.backends"
"""The entry-point group. The name is what `open_sandbox` is given, the object a subclass of `SandboxBackend`."""
BUILT_IN: Mapping[str, type[SandboxBackend]] = {
    "docker": DockerBackend,
    "bubblewrap": BubblewrapBackend,
    "remote": RemoteBackend,
}
AUTOMATIC = ("docker", "bubblewrap")
"""The backends that `auto` tries, in this order."""


def names() -> list[str]:
    """Return what `open_sandbox` takes beside `auto`: the built-in backends, then the others by name."""
    return [*BUILT_IN, *sorted(_entry_points().keys() - BUILT_IN.keys())]


def _entry_points() -> Mapping[str, list[importlib.metadata.EntryPoint]]:
    return _entry_points_on(tuple(sys.path))


@functools.lru_cache(maxsize=8)
def _entry_points_on(_path: tuple[str, ...]) -> Mapping[str, list[importlib.metadata.EntryPoint]]:
    """Return the entry points of our group. Reading those of all distributions takes 50 ms, too long for every row."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        known = found.setdefault(point.name, [])
        # A source folder on sys.path shows the installed distribution a second time.
        if all((other.value, _distribution(other)) != (point.value, _distribution(point)) for other in known):
            known.append(point)
    return found


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def find(name: str) -> type[SandboxBackend]:
    """Return the class of a backend.

    Raises:
        ValueError: There is none of that name; the message lists the known ones.
        Unavailable: It can't be loaded, is not a backend, or two distributions offer it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = _entry_points().get(name, [])
    if not points:
        raise ValueError(f"unknown backend {name!r}; there are auto, {', '.join(names())}")
    if len(points) > 1:
        offered = " and ".join(map(_distribution, points))
        raise Unavailable(f"the backend {name!r} is offered twice, by {offered}; uninstall one")
    try:
        loaded = points[0].load()
    # The boundary: importing what others wrote may raise anything.
    except Exception as error:
        whose = f"the backend {name!r} of {_distribution(points[0])}"
        raise Unavailable(f"{whose} can't be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, SandboxBackend)):
        whose = f"the backend {name!r} of {_distribution(points[0])}"
        raise Unavailable(f"{whose} is not a subclass of rewardkit_sandbox.SandboxBackend")
    return loaded


def make(name: str, options: SandboxOptions) -> SandboxBackend:
    """Return a backend with its options checked; nothing is opened.

    Raises:
        ValueError: There is none of that name, or the options do not suit it.
        Unavailable: It can't be loaded.
    """
    kind = find(name)
    with _boundary(name):
        backend = kind(options)
        wrong = backend.refuse()
    if wrong is not None:
        raise ValueError(f"backend {name!r}: {wrong}")
    return backend


def open_backend(name: str, options: SandboxOptions, why: str) -> Sandbox:
    """Open a sandbox of one backend.

    Raises:
        ValueError: There is none of that name, or the options do not suit it.
        Unavailable: It can't be opened here; the message says what to do.
    """
    backend = make(name, options)
    with _boundary(name):
        return backend.open(f"{name} ({why})")


def identity(name: str, options: SandboxOptions) -> str | None:
    """Return what the results of one backend may be cached under; None if that can't be told."""
    try:
        backend = make(name, options)
        with _boundary(name):
            return backend.identity()
    except (Unavailable, ValueError):
        return None


def diagnose(name: str, options: SandboxOptions) -> list[Property]:
    """Return what this machine has for one backend."""
    remedy = "report it to the author of that distribution, or uninstall it"
    try:
        backend = make(name, options)
        with _boundary(name):
            found = list(backend.diagnose())
    except (Unavailable, ValueError) as error:
        return [Property(f"backend {name}", False, str(error), remedy)]
    if name in BUILT_IN:
        return found
    return [Property(f"backend {name}", True, "can be loaded; open_sandbox takes it by name"), *found]


@contextmanager
def _boundary(name: str) -> Iterator[None]:
    """Code of others may raise anything: it becomes `Unavailable` with the name of the distribution."""
    try:
        yield
    except (SandboxError, ValueError):
        raise
    except Exception as error:
        if name in BUILT_IN:
            raise
        whose = _distribution(_entry_points()[name][0])
        message = f"the backend {name!r} of {whose} failed: {type(error).__name__}: {error}"
        raise Unavailable(message) from error
