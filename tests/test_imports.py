"""Imports run one way, form no circle, and stay cheap."""

import ast
import importlib
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import rewardkit
import rewardkit.toolkit

PACKAGE = Path(rewardkit.__file__).parent
LAYERS = [
    {
        "types",
        "cheat",
        "errors",
        "monitor",
        "rollout_engine",
        "files",
        "interrupts",
        "reward_models",
        "language_models",
        "read_only",
    },
    {"authoring", "hookspecs", "process_pool", "services", "user_functions"},
    {"registry"},
    {"config"},
    {"composite"},
    {"scoring"},
    {"integrations", "insight"},
    {"serve", "toolkit", "view"},
    {"train"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
"""The modules and folders of ``rewardkit``, lowest layer first. A module imports its own folder and lower layers only."""
FLOORS = [
    {"config"},
    {"distributed", "run_folder", "seeds"},
    {"data", "losses"},
    {"models"},
    {"rollout"},
    {"evaluation"},
    {"monitoring", "preflight"},
    {"reports"},
    {"trainer"},
    {"stages"},
]
"""The folders of ``rewardkit.train``, lowest floor first, under the same rule."""
LARGEST_FOLDER = 14
"""A folder with more modules than this is split by topic."""
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "templates" not in file.parts)


def name_of(file: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(["rewardkit", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name_of(file): file for file in FILES}


def level(name: str, levels: list[set[str]]) -> int:
    """Return the index of the level that lists a module or folder."""
    found = [index for index, names in enumerate(levels) if name in names]
    assert found, f"{name} is on no level: add it to this test and to docs/architecture.md"
    return found[0]


def imports_of(module: str) -> set[tuple[int, str]]:
    """Return the modules that a module imports, with line numbers: lazy imports and those for type checkers count."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add((node.lineno, whole if whole in MODULES else str(node.module)))
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_core_imports_no_plugin(module: str) -> None:
    """The core never imports a plugin or the sandbox."""
    assert [target for _, target in IMPORTS[module] if target.startswith("rewardkit_")] == []


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_run_one_way(module: str) -> None:
    """A module imports nothing from a higher layer, nor from another folder of its own layer."""
    own, *_ = module.split(".")[1:]
    wrong = []
    for line, target in IMPORTS[module]:
        if not target.startswith("rewardkit."):
            continue
        other = target.split(".")[1]
        here, there = level(own, LAYERS), level(other, LAYERS)
        if there > here or (there == here > 1 and own != other):
            wrong.append(f"{module}:{line} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("rewardkit.train.")])
def test_floors_of_training(module: str) -> None:
    """Each floor of ``rewardkit.train`` imports only floors below it."""
    own = module.split(".")[2]
    wrong = []
    for line, target in IMPORTS[module]:
        if target.startswith("rewardkit.train."):
            other = target.split(".")[2]
            if other != own and level(other, FLOORS) >= level(own, FLOORS):
                wrong.append(f"{module}:{line} imports {target}")
    assert wrong == []


def test_no_circles() -> None:
    """No two modules import each other, directly or through others."""
    graph = {
        module: {target for _, target in found if target in MODULES and target != module}
        for module, found in IMPORTS.items()
    }
    with_package = {module: targets - {"rewardkit"} for module, targets in graph.items()}
    order = TopologicalSorter(with_package)
    order.prepare()  # raises CycleError, which names the circle


def test_folders_are_small() -> None:
    """No folder holds so many modules that a reader can't take them in at a glance."""
    counts = Counter(file.parent.relative_to(PACKAGE) for file in FILES if file.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > LARGEST_FOLDER} == {}


def loaded_by(code: str) -> set[str]:
    """The names of the modules that are loaded once some code has run in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(['', *sys.modules]))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


HEAVY = {"torch", "sympy", "docker", "pyarrow", "numpy", "transformers", "ray"}
HEAVY_FOR_HELP = HEAVY | {
    "pydantic",
    "jsonschema",
    "rich",
    "yaml",
    "importlib.metadata",
    "docstring_parser",
    "asyncio",
}


def test_importing_is_cheap() -> None:
    """``import rewardkit`` loads nothing heavy."""
    assert loaded_by("import rewardkit") & HEAVY_FOR_HELP == set()


def test_help_is_cheap() -> None:
    """``rewardkit --help`` and ``--version`` load nothing heavy, and no plugin."""
    for option in ("--help", "--version"):
        loaded = loaded_by(f"from rewardkit.cli import run; run(['{option}'])")
        assert loaded & HEAVY_FOR_HELP == set()
        assert not [name for name in loaded if name.startswith("rewardkit_")]


def test_reading_a_configuration_is_not_heavy() -> None:
    """Composing rewards loads neither torch nor sympy, docker or pyarrow."""
    assert (
        loaded_by("import rewardkit; rewardkit.load_reward, rewardkit.Registry.load()") & (HEAVY - {"numpy"}) == set()
    )


@pytest.mark.parametrize("module", [rewardkit, rewardkit.toolkit])
def test_all_public_names_exist(module: ModuleType) -> None:
    """Everything in ``__all__`` is there, the lazily loaded too, and nothing else is made up."""
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_the_toolkit_is_cheap() -> None:
    """A plugin that imports names of the toolkit loads nothing heavy until it uses them."""
    code = "from rewardkit.toolkit import Transform, call_service, read_rows, run_transform"
    assert loaded_by(code) & (HEAVY - {"numpy"}) == set()
    assert loaded_by("import rewardkit.toolkit") & HEAVY_FOR_HELP == set()


ROOT = Path(__file__).parents[1]
PUBLIC = [
    "rewardkit",
    "rewardkit.errors",
    "rewardkit.hookspecs",
    "rewardkit.language_models",
    "rewardkit.process_pool",
    "rewardkit.reward_models",
    "rewardkit.testing",
    "rewardkit.toolkit",
    "rewardkit.train",
]
"""The modules that docs/stability.md promises."""
PLUGINS = sorted(folder for folder in (ROOT / "plugins").glob("*/rewardkit_*") if folder.is_dir())


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda folder: folder.name)
def test_plugins_import_public_names_only(plugin: Path) -> None:
    """Anyone could have written the plugins of this repository: they import only what docs/stability.md promises, and no training."""
    wrong = []
    for file in plugin.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [(alias.name, None) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [(str(node.module), alias.name) for alias in node.names]
            else:
                continue
            for module, name in found:
                if module.split(".")[0] == "rewardkit" and not _is_public(module, name):
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {module} {name or ''}")
    assert wrong == []


def _is_public(module: str, name: str | None) -> bool:
    if module not in PUBLIC or module == "rewardkit.train" or name is None:
        return False
    names = getattr(importlib.import_module(module), "__all__", None)
    return name in names if names is not None else not name.startswith("_")


@pytest.mark.parametrize("module", PUBLIC)
def test_public_modules_are_promised(module: str) -> None:
    """Each is on the page of what stays, and documented name by name."""
    assert f"`{module}" in (ROOT / "docs/stability.md").read_text(encoding="utf-8")
    if module != "rewardkit.hookspecs":
        assert module in (ROOT / "docs/python-api.md").read_text(encoding="utf-8")
