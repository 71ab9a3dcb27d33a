"""Imports run one way, and stay cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rewardkit

PACKAGE = Path(rewardkit.__file__).parent
LAYERS = [
    {"types", "errors", "rollout_engine", "files", "interrupts"},
    {"authoring", "hookspecs"},
    {"registry"},
    {"config"},
    {"composite"},
    {"scoring"},
    {"integrations", "insight"},
    {"train"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
"""Each may import what stands above it; a folder also itself, and authoring and hookspecs stand side by side."""
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if "templates" not in file.parts)


def layer(module: str) -> int:
    """The layer of ``rewardkit.x.y``; the package itself offers everything, so it stands above all."""
    parts = module.split(".")
    if len(parts) == 1:
        return len(LAYERS)
    found = [index for index, names in enumerate(LAYERS) if parts[1] in names]
    assert found, f"{module} is in no layer: add it to this test and to the design"
    return found[0]


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """What a module imports while it runs, with the line: what stands under ``if TYPE_CHECKING`` is not."""
    found: list[tuple[int, str]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        else:
            found += imported(node)
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    """No module imports from a layer above its own, nor a plugin; lazily made imports count too."""
    name = ".".join(["rewardkit", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    own = layer(name)
    wrong = []
    for line, target in imported(ast.parse(file.read_text(encoding="utf-8"))):
        assert not target.startswith("rewardkit_"), f"{name}:{line} imports the plugin {target}"
        if not target.startswith("rewardkit."):
            continue
        if len(target.split(".")) == 2 and target.split(".")[1] in rewardkit.__all__:
            continue
        other = layer(target)
        sibling = other == own and own > 1 and target.split(".")[1] != name.split(".")[1]
        if other > own or sibling:
            wrong.append(f"{name}:{line} imports {target}")
    assert wrong == []


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
    "ruamel",
    "ruamel.yaml",
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


def test_all_public_names_exist() -> None:
    """Everything in ``__all__`` is there, the lazily loaded too, and nothing else is made up."""
    assert all(getattr(rewardkit, name) is not None for name in rewardkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        rewardkit.nonsense  # noqa: B018
