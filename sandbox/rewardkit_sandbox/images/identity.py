"""What programs would find around them, told without opening a sandbox: what results may be kept under."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rewardkit_sandbox.version import __version__
from rewardkit_sandbox.images import building
from rewardkit_sandbox.backends import docker
from rewardkit_sandbox.errors import Unavailable


def identify(backend: str = "auto", image: str = "python") -> str | None:
    """A text that is another one where the same program might fare differently: version, backend, and what the image holds.

    `auto` is what `open_sandbox` would try first. None where it can't be told: no engine or image, or a backend that another
    distribution offers.
    """
    told = None
    if backend in ("auto", "docker"):
        told = _docker_image(image if ":" in image or "/" in image else building.tag(image))
    if told is None and backend in ("auto", "bubblewrap"):
        told = _root(image)
    return told and f"{__version__} {told}"


def _docker_image(tag: str) -> str | None:
    try:
        engine = docker.client()
    except Unavailable:
        return None
    try:
        return f"docker {engine.images.get(tag).id}"
    except Exception as error:
        if docker.is_engine_error(error):
            return None
        raise
    finally:
        engine.close()


def _root(image: str) -> str | None:
    """A root file system is put in place whole and read-only to programs, so that the time of its making tells it apart."""
    if image == "host":
        return f"bubblewrap host {sys.version}"
    root = Path(image) if os.sep in image else building.root(image)
    try:
        made = (root / "usr/bin/python3").stat().st_ctime_ns
    except OSError:
        return None
    return f"bubblewrap {root.resolve()} {made}"
