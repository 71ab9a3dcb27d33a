"""The page in the package is what its source builds, and it is small."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import rewardkit.view

UI = Path(__file__).parents[2] / "ui"
STATIC = Path(rewardkit.view.__file__).parent / "static"
MOST_BYTES = 400_000


def contents(folder):
    """The files of a folder by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
@pytest.mark.skipif(not (UI / "node_modules" / "vite").is_dir(), reason="needs `npm ci` in ui/")
def test_the_page_is_what_its_source_builds(tmp_path):
    """A rebuild gives the committed files byte for byte: after a change in ui/, run `make ui`."""
    env = os.environ | {"VIEW_OUT": str(tmp_path / "static")}
    done = subprocess.run(["npm", "run", "build"], cwd=UI, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "static") == contents(STATIC)


def test_the_page_is_small_and_asks_nobody():
    """It has less than 400 kB, and no address of another host that a browser would load."""
    files = contents(STATIC)
    assert set(files) == {"index.html", "index.css", "view.js"}
    assert sum(map(len, files.values())) < MOST_BYTES
    assert b"http" not in files["index.html"] + files["index.css"]


def test_the_lock_file_names_versions_and_checksums_but_no_registry():
    """Builds elsewhere take their own registry, and get the same files."""
    packages = json.loads((UI / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package and "resolved" not in package for name, package in packages.items() if name)
