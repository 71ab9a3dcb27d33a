"""Fixtures for all tests: plugins that are installed for the length of one test."""

import importlib
import itertools
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rewardkit import Registry

# No test needs a hub, and huggingface_hub would retry for most of a minute where there is no network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_numbers = itertools.count()

InstallPlugin = Callable[..., str]


def _installer(site: Path, modules: list[str]) -> InstallPlugin:
    site.mkdir()

    def install(
        code: str, distribution: str = "acme", version: str = "1.0", entry: str | None = None, attr: str = ""
    ) -> str:
        module = f"plugin_of_a_test_{next(_numbers)}"
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[rewardkit]\n{entry or distribution} = {module}{attr}\n")
        importlib.invalidate_caches()
        return module

    return install


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallPlugin]:
    """Install a distribution as pip does, of one module: (code, distribution="acme", version="1.0", entry=None) → module name.

    The module's name is new each time, and its entry point is called like the distribution unless ``entry`` says otherwise.
    """
    modules: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield _installer(tmp_path / "site", modules)
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def install_plugin_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstallPlugin]:
    """Install a distribution for all tests of a module, as ``install_plugin`` does for one test."""
    modules: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        site = tmp_path_factory.mktemp("plugins") / "site"
        monkeypatch.syspath_prepend(str(site))
        yield _installer(site, modules)
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def load_plugin(install_plugin: InstallPlugin) -> Callable[..., Registry]:
    """Install a plugin and load a registry of it alone."""

    def load(code: str, distribution: str = "acme", **more: str) -> Registry:
        install_plugin(code, distribution, **more)
        return Registry.load(only={more.get("entry") or distribution})

    return load
