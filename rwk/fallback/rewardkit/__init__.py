"""Stands in for `rewardkit/__init__.py` where another distribution has overwritten or deleted it.

``rwk`` puts the folder above this one first on the path. A copy of `rewardkit/__init__.py` next to this file
runs here; all other modules come from the installed package. In a checkout the copy is a link.
"""

from pathlib import Path as _Path

_copy = _Path(__file__).with_name("_copy_of_init.py")
_package = _Path(__file__).parents[3] / "rewardkit"
__path__.append(str(_package))
__file__ = str(_package / "__init__.py")  # the place of the package, as doctor shows it
exec(compile(_copy.read_bytes(), str(_copy), "exec"))  # noqa: S102 - our own code
