"""A third party's plugin from first to last: written, installed with pip into a fresh environment, tested there, used from YAML.

Two plugins: one that ``new-plugin`` writes, and the one in ``examples/plugin``. The environment is new and the installs are real
(built as wheels, not editable). What rewardkit itself depends on is seen through from the environment that runs the tests, so
that nothing is downloaded.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from rewardkit.cli.new_plugin import write_plugin

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
MODULES = {"written": "rewardkit_says_hence", "example": "rewardkit_palindrome"}


def run(*command, cwd, code=0):
    """Run a command; returns its standard output, and its errors too where it is to fail."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of both plugins' packages."""
    author = tmp_path_factory.mktemp("author")
    shutil.copytree(EXAMPLE, author / "example", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return {"written": write_plugin("says-hence", author), "example": author / "example"}


@pytest.fixture(scope="module")
def python(tmp_path_factory, folders):
    """The interpreter of a fresh environment that both are installed in."""
    home = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    interpreter = home / "venv" / "bin" / "python"
    packages = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    outside = sysconfig.get_path("purelib")
    (Path(packages) / "outside.pth").write_text(f"import site; site.addsitedir({outside!r})\n")
    offline = ["--no-index", "--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(
        *(sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check"),
        *("install", "-q", *offline, *folders.values()),
        cwd=home,
    )
    return interpreter


def rewardkit(python, *arguments, cwd, code=0):
    """Run the command line in the fresh environment."""
    return run(python, "-I", "-c", "from rewardkit.cli import main; main()", *map(str, arguments), cwd=cwd, code=code)


def pytest_in(python, *arguments, cwd, code=0):
    """Run pytest in the fresh environment, with warnings as errors."""
    return run(
        python, "-I", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *arguments, cwd=cwd, code=code
    )


@pytest.mark.parametrize("which", MODULES)
def test_it_is_installed_for_real(python, tmp_path, which):
    """The module is imported from the fresh environment, not from where it was written."""
    where = run(python, "-I", "-c", f"import {MODULES[which]} as m; print(m.__file__)", cwd=tmp_path).strip()
    assert where.startswith(str(python.parent.parent))


@pytest.mark.parametrize("which", MODULES)
def test_its_shipped_tests_pass(python, folders, tmp_path, which):
    """The tests that it ships, the contract among them, pass on the installed plugin."""
    said = pytest_in(python, folders[which] / "tests", cwd=tmp_path)
    assert "failed" not in said
    assert " passed" in said


def test_its_shipped_tests_fail_when_the_reward_is_wrong(python, folders, tmp_path):
    """The contract is really held: where good and bad are swapped, one test fails and says why."""
    swapped = (folders["written"] / "tests" / "test_says_hence.py").read_text().replace("good =", "was_good =")
    swapped = swapped.replace("bad =", "good =").replace("was_good =", "bad =")
    shutil.copy(folders["written"] / "README.md", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_swapped.py").write_text(swapped)
    said = pytest_in(python, "tests", cwd=tmp_path, code=1)
    assert "1 failed" in said
    assert "'good gets more than bad'" in said


def test_the_registry_finds_it(python, tmp_path):
    """Listed with its distribution, version, parameters and their descriptions."""
    listed = json.loads(rewardkit(python, "plugins", "says_hence", "--json", cwd=tmp_path))
    assert [(item["name"], item["distribution"], item["version"]) for item in listed] == [
        ("says_hence", "rewardkit-says-hence", "0.1.0")
    ]
    phrase = listed[0]["params"]["properties"]["phrase"]
    assert phrase == {"type": "string", "default": "therefore", "description": phrase["description"]}
    assert phrase["description"].startswith("The phrase to look for")


@pytest.mark.parametrize("which", MODULES)
def test_its_reward_file_is_accepted(python, folders, tmp_path, which):
    """The shipped YAML passes ``rewardkit check``."""
    rewardkit(python, "check", folders[which] / "reward.yaml", cwd=tmp_path)


def test_a_misspelt_parameter_is_told_with_its_place(python, tmp_path):
    """The plugin's parameters are part of the schema: file, line, column, and what was probably meant."""
    (tmp_path / "reward.yaml").write_text("version: 1\ncomponents:\n  hence: {use: says_hence, with: {phrse: hence}}\n")
    said = rewardkit(python, "check", "reward.yaml", cwd=tmp_path, code=2)
    assert "reward.yaml:3:" in said
    assert "phrse" in said
    assert "did you mean 'phrase'?" in said


def test_the_written_plugin_scores_from_yaml(python, folders, tmp_path):
    """``rewardkit score`` with the shipped reward.yaml runs it on a file of rollouts."""
    rows = [
        {"prompt": "Why is it wet?", "completion": "It rains, therefore it is wet."},
        {"prompt": "Why is it wet?", "completion": "I don't know."},
    ]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scores(python, folders["written"] / "reward.yaml", "rollouts.jsonl", tmp_path) == [1.0, 0.0]


def test_the_example_scores_its_own_rollouts(python, folders, tmp_path):
    """Half a point for a palindrome, one for the length asked for and half of that for another."""
    folder = folders["example"]
    assert scores(python, folder / "reward.yaml", folder / "rollouts.jsonl", tmp_path) == [1.5, 1.0, 0.0, 1.5, 0.0]


def scores(python, reward, rollouts, cwd):
    """The rewards of all rows, scored by the command line."""
    rewardkit(python, "score", rollouts, "--reward", reward, "--out", "scored.jsonl", cwd=cwd)
    return [json.loads(line)["reward"] for line in (cwd / "scored.jsonl").read_text().splitlines()]
