"""Opens a sandbox, and chooses the backend."""

from __future__ import annotations

import os

from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.errors import Unavailable
from rewardkit_sandbox.protocol import Sandbox, SandboxOptions
from rewardkit_sandbox.types import Limits
from rewardkit_sandbox.version import __version__


def default_slots() -> int:
    """Return two slots per CPU that this process may use: while one box cleans up, another runs."""
    return 2 * len(os.sched_getaffinity(0))


def open_sandbox(
    backend: str = "auto",
    *,
    slots: int | None = None,
    image: str = "python",
    limits: Limits | None = None,
    runtime: str | None = None,
    preimport: tuple[str, ...] | None = None,
    url: str | None = None,
    token: str | None = None,
) -> Sandbox:
    """Open a sandbox that is ready to run programs.

    Args:
        backend: `docker`, `bubblewrap`, `remote`, the name of one that another distribution offers, or `auto`: Docker if an
            engine answers and has the image, else bubblewrap. `Sandbox.description` says which was taken and why. Programs never
            run without isolation.
        slots: The number of programs that run at a time; by default `default_slots()`.
        image: The name of an image that `build` makes (`python`, `science`, `languages`, `all`), a Docker image with a tag, or for
            bubblewrap the path of a root file system (`host`: the host's own /usr).
        limits: The limits of a run that gives none, and the highest limits that a run can ask for.
        runtime: For Docker: another runtime of the engine, such as `runsc` (gVisor).
        preimport: Modules that every Python program finds imported; by default the common ones.
        url: For `remote`: the address of the service.
        token: For `remote`: the token of the service; by default the environment variable REWARDKIT_SANDBOX_TOKEN.

    Raises:
        Unavailable: No backend works here; the message says what was tried and what to do.
        ValueError: No backend has that name, or the options do not suit it.
    """
    options = SandboxOptions(image, limits or Limits(), slots or default_slots(), runtime, preimport, url, token)
    if backend != "auto":
        return registry.open_backend(backend, options, f"at {url}" if url else "as asked")
    reasons: list[str] = []
    for name in registry.AUTOMATIC:
        why = "; ".join(reasons) or "an engine answers and has the image"
        try:
            return registry.open_backend(name, options, why)
        except (Unavailable, ValueError) as error:
            reasons.append(f"{name}: {error}")
    raise Unavailable("no sandbox can be opened here. " + "; ".join(reasons))


def identify(backend: str = "auto", image: str = "python", *, url: str | None = None) -> str | None:
    """Return a text that changes whenever the same program might behave differently. Results are cached under it.

    The text contains the version of this package, the backend, and a hash of the image. No sandbox is opened.

    Args:
        backend: The name of the backend, as for `open_sandbox`.
        image: The name of the image.
        url: For `remote`: the address of the service.

    Returns:
        The text, or None if it is unknown because there is no engine or image, or the backend has no identity.
    """
    options = SandboxOptions(image, url=url)
    for name in registry.AUTOMATIC if backend == "auto" else (backend,):
        if found := registry.identity(name, options):
            return f"{__version__} {found}"
    return None
