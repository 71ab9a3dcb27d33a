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
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import pip
import pytest

from rewardkit.cli.new_plugin import write_plugin

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
MODULES = {"written": "rewardkit_says_hence", "example": "rewardkit_palindrome"}


def run(*command, cwd, code=0, given=None):
    """Run a command; returns its standard output, and its errors too where it is to fail."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
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
    venv.create(home / "venv", symlinks=True)
    interpreter = home / "venv" / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(home / "venv")})
    outside = sysconfig.get_path("purelib")
    (Path(packages) / "outside.pth").write_text(f"import site; site.addsitedir({outside!r})\n")
    offline = ["--no-index", "--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(
        *(interpreter, Path(pip.__file__).with_name("__pip-runner__.py"), "--disable-pip-version-check"),
        *("install", "-q", "--no-deps", *offline, *folders.values()),
        cwd=home,
    )
    return interpreter


COMMANDS = """
import contextlib, io, json, sys
import rewardkit_palindrome, rewardkit_says_hence
from rewardkit.cli import run

done = []
for command in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(command)
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps([[rewardkit_palindrome.__file__, rewardkit_says_hence.__file__], done]))
"""
MISSPELT = "version: 1\ncomponents:\n  hence: {use: says_hence, with: {phrse: hence}}\n"


@pytest.fixture(scope="module")
def commands(python, folders, tmp_path_factory):
    """Where both modules were imported from, and the exit code and output of each command, all of one process."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "misspelt.yaml").write_text(MISSPELT)
    rows = [
        {"prompt": "Why is it wet?", "completion": "It rains, therefore it is wet."},
        {"prompt": "Why is it wet?", "completion": "I don't know."},
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written, example = folders["written"], folders["example"]
    asked = {
        "plugins": ["plugins", "says_hence", "--json"],
        "check written": ["check", written / "reward.yaml"],
        "check example": ["check", example / "reward.yaml"],
        "check misspelt": ["check", "misspelt.yaml"],
        "score written": ["score", "rollouts.jsonl", "--reward", written / "reward.yaml", "--out", "written.jsonl"],
        "score example": [
            "score",
            example / "rollouts.jsonl",
            "--reward",
            example / "reward.yaml",
            "--out",
            "example.jsonl",
        ],
    }
    told = run(
        python, "-I", "-c", COMMANDS, cwd=folder, given=json.dumps([list(map(str, one)) for one in asked.values()])
    )
    files, done = json.loads(told.splitlines()[-1])
    return SimpleNamespace(files=files, folder=folder, done=dict(zip(asked, done, strict=True)))


def succeeded(commands, name):
    """Return the standard output of a command that must have succeeded."""
    code, out, errors = commands.done[name]
    assert code == 0, errors
    return out


def pytest_in(python, *arguments, cwd, code=0):
    """Run pytest in the fresh environment, with warnings as errors."""
    return run(
        python, "-I", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *arguments, cwd=cwd, code=code
    )


def test_it_is_installed_for_real(python, commands):
    """The modules are imported from the fresh environment, not from where they were written."""
    assert all(file.startswith(str(python.parent.parent)) for file in commands.files)


def test_its_shipped_tests_pass(python, folders, tmp_path):
    """The tests that each ships, the contract among them, pass on the installed plugin."""
    said = pytest_in(
        python, "--import-mode=importlib", *(folder / "tests" for folder in folders.values()), cwd=tmp_path
    )
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


def test_the_registry_finds_it(commands):
    """Listed with its distribution, version, parameters and their descriptions."""
    listed = json.loads(succeeded(commands, "plugins"))
    assert [(item["name"], item["distribution"], item["version"]) for item in listed] == [
        ("says_hence", "rewardkit-says-hence", "0.1.0")
    ]
    phrase = listed[0]["params"]["properties"]["phrase"]
    assert phrase == {"type": "string", "default": "therefore", "description": phrase["description"]}
    assert phrase["description"].startswith("The phrase to look for")


@pytest.mark.parametrize("which", MODULES)
def test_its_reward_file_is_accepted(commands, which):
    """The shipped YAML passes ``rewardkit check``."""
    succeeded(commands, f"check {which}")


def test_a_misspelt_parameter_is_told_with_its_place(commands):
    """The plugin's parameters are part of the schema: file, line, column, and what was probably meant."""
    code, _, said = commands.done["check misspelt"]
    assert code == 2
    assert "misspelt.yaml:3:" in said
    assert "phrse" in said
    assert "did you mean 'phrase'?" in said


@pytest.mark.parametrize(
    ("which", "rewards"),
    [
        ("written", [1.0, 0.0]),
        # Half a point for a palindrome, one for the length asked for and half of that for another.
        ("example", [1.5, 1.0, 0.0, 1.5, 0.0]),
    ],
)
def test_it_scores_from_yaml(commands, which, rewards):
    """``rewardkit score`` with the shipped reward.yaml runs it on a file of rollouts."""
    succeeded(commands, f"score {which}")
    scored = (commands.folder / f"{which}.jsonl").read_text().splitlines()
    assert [json.loads(line)["reward"] for line in scored] == rewards
