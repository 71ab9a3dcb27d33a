"""Checks whether the installed files of rewardkit are its own. Uses the standard library only, and imports no module of rewardkit."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAME = "rewardkit"
KNOWN_CLASH = "harbor_rewardkit-"
"""How the folders of metadata of the known other distribution begin."""
_INIT, _MAIN = "rewardkit/__init__.py", "rewardkit/__main__.py"
REPLACEABLE = {_INIT, _MAIN}
"""The files that ``rwk`` can do without."""
_ROOT = Path(__file__).parents[1]
_FALLBACK = Path(__file__).with_name("fallback")
_COPY_OF_INIT = _FALLBACK / "rewardkit" / "_copy_of_init.py"
"""A link in a checkout, so the two never differ; wheels have a copy."""


class DamagedError(Exception):
    """More files are missing or replaced than ``rwk`` can do without."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Another distribution that installs files of ours."""

    name: str
    version: str
    files: tuple[str, ...]
    """The paths of the files that both have, as in a RECORD: relative to the folder of installed packages."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the installation."""

    detail: str
    remedy: str
    """The command that repairs it."""

    def __str__(self) -> str:
        return f"{self.detail}. To repair the installation: {self.remedy}"


def put_own_package_first() -> None:
    """Make ``import rewardkit`` find our package, in this process and its children.

    Raises:
        DamagedError: The package can't be used before it is installed again.
    """
    folder = _ROOT
    if not is_init_intact():
        damaged = [file for file in damaged_files() if not is_script(file) and file not in REPLACEABLE]
        if damaged:
            raise DamagedError(str(_damage(damaged, clashes())))
        folder = _FALLBACK
    spec = importlib.util.find_spec(NAME)
    wanted = folder / _INIT
    if spec is None or spec.origin is None or not wanted.samefile(spec.origin):
        sys.path.insert(0, str(folder))
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{others}" if others else str(folder)


def is_init_intact() -> bool:
    """Return whether `rewardkit/__init__.py` is the file of this version of rewardkit."""
    try:
        content = (_ROOT / _INIT).read_bytes()
        return content == _COPY_OF_INIT.read_bytes()
    except OSError:
        return False


def find_problem(*, thorough: bool = False) -> Problem | None:
    """Look for files of ours that are missing, replaced, or owned by another distribution as well.

    Args:
        thorough: Whether to check all installed distributions, which takes a second or so. Otherwise this only looks for one
            known name, and reads no metadata unless that is there, so that every start can afford it.

    Returns:
        The most important problem; None if there is none.
    """
    is_intact = is_init_intact()
    found = clashes() if thorough or not is_intact else _clashes_of(_known_clashes())
    if not is_intact:
        if found:
            cause = f"{_names(found)} has overwritten {_INIT}"
        elif (_ROOT / _INIT).exists():
            cause = f"{_INIT} has been changed"
        else:
            cause = f"{_INIT} is missing, as it is after harbor-rewardkit has been uninstalled"
        effect = "the command rwk works, but the command rewardkit and `import rewardkit` do not"
        return Problem(f"{cause}: {effect}", _remedy(found))
    if found and is_editable():
        return Problem(
            f"{_names(found)} is installed in this environment, too, and Python finds its package before this checkout: "
            "only the command rwk is sure to work",
            _remedy(found),
        )
    if found:
        files = sorted({Path(file).name if is_script(file) else file for clash in found for file in clash.files})
        return Problem(
            f"{_names(found)} is installed in this environment, too, and has files of the same names ({', '.join(files)}): "
            "updating it overwrites ours, and uninstalling it deletes ours; only the command rwk is sure to work",
            _remedy(found),
        )
    damaged = damaged_files() if thorough else []
    return _damage(damaged, found) if damaged else None


def install_again() -> str:
    """Return the command that installs the files of rewardkit again."""
    return f"pip install --no-deps -e {_ROOT}" if is_editable() else f"pip install --force-reinstall --no-deps {NAME}"


def _remedy(found: Iterable[Clash]) -> str:
    uninstall = " ".join(clash.name for clash in found)
    return f"pip uninstall {uninstall} && {install_again()}" if uninstall else install_again()


def _names(found: Iterable[Clash]) -> str:
    return " and ".join(f"{clash.name} {clash.version}" for clash in found)


def _damage(damaged: list[str], found: list[Clash]) -> Problem:
    shown = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
    cause = f"; {_names(found)} has files of the same names" if found else ""
    return Problem(f"files of rewardkit are missing or differ from those installed: {shown}{cause}", _remedy(found))


def is_editable() -> bool:
    """Return whether rewardkit runs from a checkout."""
    return not any(_ROOT.glob(f"{NAME}-*.dist-info"))


def is_script(file: str) -> bool:
    """Return whether a path of a RECORD is that of a command."""
    return file.startswith("..") and Path(file).parent.name in {"bin", "Scripts"}


def damaged_files() -> list[str]:
    """Return the files of our RECORD that are missing or changed. A command counts as changed if it starts something else."""
    own = _own_distribution()
    if own is None:
        return []
    damaged = []
    for file, digest in _record(own):
        if not digest:  # RECORD itself, and compiled files
            continue
        try:
            content = Path(str(own.locate_file(file))).read_bytes()
        except OSError:
            damaged.append(file)
            continue
        # Tools that move environments rewrite the first line of a command, so its digest says nothing.
        if not (_starts_ours(content) if is_script(file) else digest == _sha256(content)):
            damaged.append(file)
    return damaged


def clashes() -> list[Clash]:
    """Return all distributions that install files of ours, whatever their names."""
    from importlib.metadata import distributions

    return _clashes_of(distributions())


def _clashes_of(candidates: Iterable[Distribution]) -> list[Clash]:
    """Return those of some distributions that install files of ours, each once."""
    found = {clash.name: clash for clash in map(_clash, candidates) if clash is not None}
    return list(found.values())


def _known_clashes() -> Iterator[Distribution]:
    """Yield the installed distributions with the name that is known to clash."""
    for entry in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(entry or "."):  # noqa: PTH208 - Path.iterdir is several times as slow
                if name.startswith(KNOWN_CLASH) and name.endswith(".dist-info"):
                    from importlib.metadata import Distribution

                    yield Distribution.at(Path(entry, name))


def _clash(distribution: Distribution) -> Clash | None:
    """Return which of our files a distribution installs; None if none."""
    name = distribution.metadata["Name"]
    if (
        not name
        or name.lower().replace("_", "-") == NAME
        or "\nrewardkit/" not in f"\n{distribution.read_text('RECORD')}"
    ):
        return None
    own = _own_distribution()
    ours = REPLACEABLE | ({file for file, _ in _record(own)} if own else set())
    shared = tuple(sorted(file for file, _ in _record(distribution) if file in ours and not file.endswith(".pyc")))
    return Clash(name, distribution.version, shared) if shared else None


def _own_distribution() -> Distribution | None:
    """Return the metadata of rewardkit that belong to this file."""
    from importlib.metadata import distributions

    beside = next(iter(distributions(name=NAME, path=[str(_ROOT)])), None)
    return beside or next(iter(distributions(name=NAME)), None)


def _record(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Yield the path and the digest of each installed file. `Distribution.files` leaves out those that are missing."""
    import csv

    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if len(row) >= 2:
            yield row[0], row[1]


def _starts_ours(script: bytes) -> bool:
    return b"from rewardkit.cli import" in script or b"from rwk import" in script


def _sha256(content: bytes) -> str:
    import base64
    import hashlib

    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
