"""Opening a sandbox: which backend, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.errors import Unavailable
from rewardkit_sandbox.host.pool import Backend, Pool
from rewardkit_sandbox.images import building
from rewardkit_sandbox.sandbox import Sandbox
from rewardkit_sandbox.types import Limits

if TYPE_CHECKING:
    from rewardkit_sandbox.backends.remote import RemoteSandbox


def open_remote(url: str, *, limits: Limits | None = None, in_flight: int = 16) -> RemoteSandbox:
    """A sandbox behind SandboxFusion's HTTP API. Raises `Unavailable` where none answers."""
    from rewardkit_sandbox.backends.remote import RemoteSandbox

    return RemoteSandbox(url, limits, in_flight=in_flight)


def default_slots() -> int:
    """Two boxes per CPU that this process may use: while one cleans up, another runs."""
    return 2 * len(os.sched_getaffinity(0))


def open_sandbox(
    backend: str = "auto",
    *,
    slots: int | None = None,
    image: str = "python",
    limits: Limits | None = None,
    runtime: str | None = None,
    preimport: tuple[str, ...] | None = None,
) -> Sandbox:
    """A sandbox with its boxes warm.

    Args:
        backend: `docker`, `bubblewrap`, or `auto`: Docker where an engine answers and has the image, else bubblewrap.
            `Sandbox.description` says which was taken and why; there is never one without walls. Or the name of one that
            another distribution offers, which `auto` never takes.
        slots: how many programs run at a time; None is `default_slots()`.
        image: the name of an image that `build` makes (`python`, `science`, `languages`), a Docker image with a tag, or
            for bubblewrap the path of a root file system (`host`: the host's own /usr).
        limits: what a program may use at most, and where a run says nothing.
        runtime: for Docker, another runtime of the engine, such as `runsc` (gVisor).
        preimport: modules that are warm in every Python program; None takes the common ones.

    Raises:
        Unavailable: no backend works here; the message says what was tried and what to do.
        ValueError: nobody offers a backend of that name.
    """
    limits = limits or Limits()
    size = slots or default_slots()
    if backend not in ("auto", *registry.BUILT_IN):
        return registry.opener(backend)(slots=size, image=image, limits=limits, runtime=runtime, preimport=preimport)
    names = registry.BUILT_IN if backend == "auto" else (backend,)
    reasons: list[str] = []
    for name in names:
        try:
            pool = Pool(_make(name, image, limits, runtime, preimport), size)
            pool.open()
        except Unavailable as error:
            if backend != "auto":
                raise
            reasons.append(f"{name}: {error}")
        else:
            why = "as asked" if backend != "auto" else "; ".join(reasons) or "an engine answers and has the image"
            return Sandbox(pool, limits, f"{name} ({why})")
    raise Unavailable("no sandbox can be opened here. " + "; ".join(reasons))


def _make(name: str, image: str, limits: Limits, runtime: str | None, preimport: tuple[str, ...] | None) -> Backend:
    if name == "docker":
        from rewardkit_sandbox.backends.docker import DockerBackend

        tag = image if ":" in image or "/" in image else building.tag(image)
        return DockerBackend(tag, limits, runtime=runtime, preimport=preimport)
    from rewardkit_sandbox.backends.bubblewrap import BubblewrapBackend

    if runtime is not None:
        raise Unavailable("a runtime is a parameter of the Docker backend")
    root = None if image == "host" else Path(image) if os.sep in image else building.root(image)
    return BubblewrapBackend(root, limits, preimport=preimport)
