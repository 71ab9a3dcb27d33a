"""The README is the manual: what it shows is run here as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rewardkit.config import parse_config
from rewardkit.registry import Registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ").split("  #")[0]
    for language, text in BLOCKS
    if language == "console"
    for line in text.splitlines()
    if line.startswith("$ rewardkit ")
]
FAMILIES = {"format", "length", "math"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that holds the examples, as a user who has just cloned would see them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("REWARDKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    missing = FAMILIES - {name.split(".")[0] for name in Registry.load().names()}
    if missing:
        pytest.skip(f"plugins are not installed: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_works(folder, command):
    """A command that the README shows ends with exit code 0 in a folder that holds the examples."""
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=120)  # noqa: S602

    assert done.returncode == 0, done.stderr


def test_the_readme_shows_commands():
    """The pattern above finds the commands at all."""
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_every_reward_file_of_the_readme_is_valid(text):
    """A YAML block is a complete and valid reward file."""
    assert parse_config(text, Registry.load()).component_names


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_every_python_block_of_the_readme_runs(folder, text):
    """A Python block runs as a program of its own."""
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
