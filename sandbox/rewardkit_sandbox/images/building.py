"""Images: the file systems that programs see. Built from Debian packages, with a registry or without one.

One root file system serves both backends: bubblewrap binds it read-only, Docker imports it. Where a registry answers,
the shipped Dockerfile makes the image and bubblewrap's root is exported from it; otherwise debootstrap makes the root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rewardkit_sandbox.errors import Unavailable

REPOSITORY = "rewardkit-sandbox"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The packages that an image is made of."""

    name: str
    description: str
    packages: tuple[str, ...]


def _folder() -> Path:
    package = Path(__file__).parent / "recipes"
    return package if package.is_dir() else Path(__file__).parents[2] / "images"


def recipes() -> dict[str, Recipe]:
    """Return the images that can be built, by name."""
    data = tomllib.loads((_folder() / "images.toml").read_text())
    return {name: Recipe(name, row["description"], tuple(row["packages"])) for name, row in data.items()}


def recipe(name: str) -> Recipe:
    """Return the recipe of one image.

    Raises:
        ValueError: there is none of that name.
    """
    known = recipes()
    if name not in known:
        raise ValueError(f"unknown image {name!r}; there are {', '.join(known)}")
    return known[name]


def tag(name: str) -> str:
    """Return the Docker tag of an image."""
    return f"{REPOSITORY}:{name}"


def store() -> Path:
    """Return where root file systems are kept: `REWARDKIT_SANDBOX_HOME`, or a system folder for root, or the user's cache.

    Unprivileged users of the host must be able to read it.
    """
    if given := os.environ.get("REWARDKIT_SANDBOX_HOME"):
        return Path(given)
    if os.getuid() == 0:
        return Path("/var/lib/rewardkit-sandbox")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rewardkit-sandbox"


def root(name: str) -> Path:
    """Return where the root file system of an image is, or would be."""
    return store() / name


def has_docker_image(name: str) -> bool:
    """Return whether the engine has the image; False without an engine."""
    return _run(["docker", "image", "inspect", tag(name)], quiet=True) == 0


def build(name: str, say: Say = print, *, force: bool = False) -> None:
    """Make the root file system of an image and, if an engine answers, the Docker image.

    Args:
        name: which.
        say: takes lines of progress.
        force: make it again though it is there.

    Raises:
        ValueError: there is no such image.
        Unavailable: neither a registry nor debootstrap can be used; the message says why.
    """
    wanted, folder = recipe(name), root(name)
    engine = _run(["docker", "version"], quiet=True) == 0
    ready = (folder / "usr/bin/python3").exists()
    if force or not ready:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
            made = Path(scratch) / "root"
            made.mkdir(mode=0o755)
            if engine and _build_by_dockerfile(wanted, say):
                _export(tag(name), made)
            else:
                _debootstrap(wanted, made, say)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            made.rename(folder)
            folder.chmod(0o755)
        say(f"{name}: root file system in {folder}")
    if engine and (force or not ready or not has_docker_image(name)) and not _is_from_dockerfile(name):
        say(f"{name}: importing it as {tag(name)}")
        _import(folder, tag(name))


def _is_from_dockerfile(name: str) -> bool:
    label = '{{index .Config.Labels "rewardkit.sandbox.image"}}'
    done = subprocess.run(
        ["docker", "image", "inspect", "-f", label, tag(name)], capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and done.stdout.strip() == name


def _build_by_dockerfile(wanted: Recipe, say: Say) -> bool:
    base = f"debian:{SUITE}-slim"
    if _run(["docker", "image", "inspect", base], quiet=True) != 0:
        say(f"{wanted.name}: asking the registry for {base}")
        if _run(["timeout", "120", "docker", "pull", "-q", base], quiet=True) != 0:
            say(f"{wanted.name}: no registry answers; making a Debian root instead")
            return False
    command = ["docker", "build", "-t", tag(wanted.name), "--label", f"rewardkit.sandbox.image={wanted.name}"]
    command += ["--build-arg", f"BASE={base}", "--build-arg", f"PACKAGES={' '.join(wanted.packages)}", str(_folder())]
    return _run(command, quiet=True) == 0


def _export(image: str, target: Path) -> None:
    container = subprocess.run(
        ["docker", "create", image, "true"], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            subprocess.run(["tar", "-x", "-C", str(target), "--exclude=dev/*"], stdin=export.stdout, check=True)
    finally:
        _run(["docker", "rm", "-f", container], quiet=True)


def _import(folder: Path, image: str) -> None:
    with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as archive:
        done = subprocess.run(
            ["docker", "import", "-", image], stdin=archive.stdout, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise Unavailable(f"the engine did not take the image {image}: {done.stderr.strip()}")


def _debootstrap(wanted: Recipe, target: Path, say: Say) -> None:
    if shutil.which("debootstrap") is None:
        raise Unavailable("no registry answers and debootstrap is not installed: apt-get install debootstrap")
    if os.getuid() != 0:
        raise Unavailable("no registry answers, and debootstrap needs root: run this build once with sudo")
    say(f"{wanted.name}: debootstrap {SUITE} with {', '.join(wanted.packages)}")
    base = ["debootstrap", "--variant=minbase", SUITE, str(target), MIRROR]
    done = subprocess.run(base, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"debootstrap failed: {done.stdout.strip()[-1500:]} {done.stderr.strip()[-500:]}")
    install = "apt-get install -y -qq --no-install-recommends " + " ".join(wanted.packages)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        ["chroot", str(target), "/bin/sh", "-ec", install], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise Unavailable(
            f"apt-get failed in the new root: {done.stdout.strip()[-1500:]} {done.stderr.strip()[-1500:]}"
        )
    subprocess.run(["/bin/sh", "-e", str(_folder() / "strip.sh"), str(target)], check=True)


def _run(command: list[str], *, quiet: bool) -> int:
    sink = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, stdout=sink, stderr=sink, check=False).returncode
    except FileNotFoundError:
        return 127
