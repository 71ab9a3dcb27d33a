"""Packages that programs and tests import, and the images that have them."""

from __future__ import annotations

import re
from functools import cache

from rewardkit_sandbox.images import building

_WITH_PYTEST = frozenset({"pytest", "pluggy", "packaging", "iniconfig", "attr", "attrs", "py", "pkg_resources"})
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+\w+|import[ \t]+[^\n#;]*)", re.MULTILINE)
_MISSING = re.compile(r"No module named '([A-Za-z_]\w*)")


@cache
def _packages() -> dict[str, frozenset[str]]:
    """The Python packages of each image that `rewardkit sandbox build` makes."""
    return {
        name: frozenset(
            package.removeprefix("python3-") for package in recipe.packages if package.startswith("python3-")
        )
        for name, recipe in building.recipes().items()
    }


def image_with(package: str, image: str) -> str | None:
    """Return another image that has a package which an image lacks.

    None if the image has the package or is not one that `rewardkit sandbox build` makes, or if no such image has it.
    """
    known = _packages()
    if image not in known or package in known[image]:
        return None
    return next((name for name, packages in known.items() if package in packages), None)


def lacks(image: str, package: str) -> bool:
    """Return whether an image is known to lack a package.

    An image with more Python packages than pytest has their dependencies too, which its recipe does not list.
    """
    known = _packages()
    if image not in known:
        return False
    if known[image] <= {"pytest"}:
        return package not in _WITH_PYTEST
    return image_with(package, image) is not None


def hint(text: str, image: str) -> str:
    """Return what to do about a message of a module that is missing, or an empty text."""
    missing = _MISSING.search(text)
    if missing and (other := image_with(missing[1], image)):
        return f"; the image {other!r} has {missing[1]} (image: {other})"
    return ""


def lacking_imports(source: str, image: str) -> list[str]:
    """Return the packages that a program imports, that an image lacks, and that another image has.

    Args:
        source: The program; it is not parsed, because a completion may be anything.
        image: The name of the image.
    """
    names = dict.fromkeys(name for line in _IMPORT.findall(source) for name in re.findall(r"\w+", line))
    return [name for name in names if image_with(name, image)]


def missing_package(text: str, source: str, image: str) -> str | None:
    """Return the package for which a program failed to start, if another image has it.

    Args:
        text: What the program ended with.
        source: The program, which must import the package: what it prints or raises alone proves nothing.
        image: The image in which it ran.
    """
    named = _MISSING.findall(text)
    return next((name for name in lacking_imports(source, image) if name in named), None)
