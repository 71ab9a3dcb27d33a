"""Packages that programs and tests import, and the images that have them."""

from __future__ import annotations

import re
from functools import cache

from rewardkit_sandbox.images import building

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


def hint(text: str, image: str) -> str:
    """Return what to do about a message of a module that is missing, or an empty text."""
    missing = _MISSING.search(text)
    if missing and (other := image_with(missing[1], image)):
        return f"; the image {image!r} lacks {missing[1]}, and {other!r} has it (image: {other})"
    return ""


def missing_package(text: str, source: str, image: str) -> str | None:
    """Return the package for which a program failed to start, if another image has it.

    Args:
        text: What the program ended with.
        source: The program, which must import the package: what it prints or raises alone proves nothing.
        image: The image in which it ran.
    """
    for name in _MISSING.findall(text):
        if image_with(name, image) and re.search(rf"^[ \t]*(?:import|from)[ \t][^\n]*\b{name}\b", source, re.MULTILINE):
            return str(name)
    return None
