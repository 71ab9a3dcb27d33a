"""Imports inside the package run one way and form no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rewardkit_sandbox

PACKAGE = Path(rewardkit_sandbox.__file__).parent
FLOORS = [
    {"version", "errors", "languages"},
    {"box"},
    {"types"},
    {"host"},
    {"verdicts"},
    {"protocol"},
    {"sandbox", "images"},
    {"backends"},
    {"opening"},
    {"checks", "server"},
    {"__init__"},
    {"cli", "testing"},
    {"__main__"},
]
"""The modules and folders of the package, lowest floor first. A module imports its own folder and lower floors only."""
LARGEST_FOLDER = 12
"""A folder with more modules than this is split by topic."""
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "recipes" not in file.parts)
MODULES = {".".join(("rewardkit_sandbox", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in FILES}


def floor(module):
    name = module.split(".")[1]
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imports_of(module):
    """The modules of this package that a module imports: lazy imports and those for type checkers count."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        for name in names:
            if name.partition(".")[0] == "rewardkit_sandbox":
                found.add(name if name in MODULES else f"{name}.__init__")
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    """A module imports its own folder and lower floors only."""
    own = module.split(".")[1]
    wrong = [name for name in IMPORTS[module] if name.split(".")[1] != own and floor(name) >= floor(module)]
    assert not wrong


def test_no_circles():
    """No modules import each other in a circle, whenever the import happens."""
    assert set(TopologicalSorter(IMPORTS).static_order()) >= set(MODULES)


def test_the_box_stands_alone():
    """The code that runs inside a box imports nothing of this package."""
    assert not any(IMPORTS[module] for module in MODULES if module.split(".")[1] == "box")


def test_folders_are_small():
    """No folder holds more modules than can be taken in at a glance."""
    for folder in {file.parent for file in FILES}:
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= LARGEST_FOLDER, folder
