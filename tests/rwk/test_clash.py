"""``rwk``, ``rewardkit`` and ``rewardkit doctor`` next to another distribution that installs files of the same names.

The other distribution is a stand-in that this file writes. It has the same package, ``__main__`` and command as ``harbor-rewardkit``.
pip installs and removes both, in every order, in an environment that sees the dependencies of this one.
"""

import json
import os
import subprocess
import sysconfig
import textwrap
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pip as pip_package
import pytest
from hatchling.builders.wheel import WheelBuilder

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
OURS, OTHER = "rewardkit", "harbor-rewardkit"
ORDERS = [(OURS, OTHER), (OTHER, OURS)]
FILES = {
    "rewardkit/__init__.py": "from rewardkit.runner import run\n",
    "rewardkit/__main__.py": "def main():\n    print('this is the other')\n\nif __name__ == '__main__':\n    main()\n",
    "rewardkit/runner.py": "def run():\n    pass\n",
}
REINSTALL = "pip install --force-reinstall --no-deps rewardkit"
UNINSTALL = f"pip uninstall harbor-rewardkit && {REINSTALL}"
SLOW = {"torch", "transformers", "peft", "vllm", "ray", "wandb"}
"""Libraries that ``doctor`` would import, which takes half a minute."""
PLUGIN = """
    from rewardkit import Rollout, Score, reward

    @reward("probe")
    def probe(rollout: Rollout) -> Score:
        return Score(float(len(rollout.completion_text)))
"""


def write_wheel(folder: Path, name: str, files: dict[str, str], entry_points: str, version: str = "9.0") -> Path:
    """Write a wheel of some files."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    content = {
        **{path: textwrap.dedent(text) for path, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


@dataclass
class Environment:
    """A virtual environment, and the wheels to install there."""

    folder: Path
    wheels: dict[str, Path]
    installed: tuple[str, ...] = ()
    """The distributions that were installed last, in order, and not uninstalled."""

    @property
    def site(self) -> Path:
        """The folder of installed packages."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def pip(self, *arguments: str) -> None:
        """Run pip, of the environment that runs the tests, in this environment."""
        pip = [self.folder / "bin" / "python", Path(pip_package.__file__).with_name("__pip-runner__.py"), "-q"]
        subprocess.run([*pip, "--disable-pip-version-check", *arguments], check=True)

    def install(self, *names: str) -> None:
        """Install distributions one after the other, whatever of them was there before."""
        if names != self.installed:
            for name in names:
                wheel = str(self.wheels[name])
                self.pip("install", "--no-index", "--no-deps", "--no-compile", "--force-reinstall", wheel)
        self.installed = names

    def uninstall(self, name: str) -> None:
        """Remove a distribution."""
        self.pip("uninstall", "-y", name)
        self.installed = ()

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in an empty folder."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "REWARDKIT"))}
        return subprocess.run(
            [self.folder / "bin" / command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder / "work",
            env={**environment, "REWARDKIT_DISABLE_PLUGINS": "rewardkit-*"},
        )

    def problem(self, command: str = "rwk") -> dict[str, str]:
        """Return what ``doctor`` finds about our files."""
        report = json.loads(self.run(command, "doctor", "--json").stdout)
        [found] = [each for each in report["areas"][0]["findings"] if each["name"] == "files"]
        return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with a plugin, and neither of the two distributions."""
    wheels = tmp_path_factory.mktemp("wheels")
    [ours] = WheelBuilder(str(REPOSITORY)).build(directory=str(wheels), versions=["standard"])
    other = write_wheel(wheels, OTHER, FILES, "[console_scripts]\nrewardkit = rewardkit.__main__:main\n")
    plugin = write_wheel(wheels, "probe", {"probe.py": PLUGIN}, "[rewardkit]\nprobe = probe\n")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    environment = Environment(folder, {OURS: Path(ours), OTHER: other, "probe": plugin})
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.suffix != ".pth" and path.name not in SLOW:
            (dependencies / path.name).symlink_to(path)
    (environment.site / "dependencies.pth").write_text(f"{dependencies}\n")
    (folder / "work").mkdir()
    (folder / "work" / "reward.yaml").write_text("version: 1\ncomponents: {probe: {use: probe}}\n")
    (folder / "work" / "rows.jsonl").write_text('{"prompt": "a", "completion": "four"}\n')
    environment.install("probe")
    return environment


def assert_rwk_works(environment: Environment, warning: str) -> None:
    """``rwk`` scores with a plugin in worker processes, and warns once."""
    done = environment.run("rwk", "--version")
    assert (done.returncode, done.stdout) == (0, "rewardkit 0.1.0\n")
    assert done.stderr.count("warning: ") == 1
    assert warning in done.stderr
    score = ["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "scored.jsonl", "--fresh", "--workers", "2"]
    done = environment.run("rwk", *score)
    assert done.returncode == 0, done.stderr
    scored = json.loads((environment.folder / "work" / "scored.jsonl").read_text())
    assert scored["reward"] == 4.0


@contextmanager
def replaced(file: Path, text: str) -> Iterator[None]:
    """Replace an installed file for the length of a block."""
    before = file.read_bytes()
    file.write_text(text)
    yield
    file.write_bytes(before)


@pytest.mark.parametrize("order", ORDERS)
def test_ours_is_uninstalled(environment: Environment, order: tuple[str, str]) -> None:
    """Nothing of ours stays behind."""
    environment.install(*order)
    environment.uninstall("rewardkit")
    assert not (environment.folder / "bin" / "rwk").exists()
    assert not list(environment.site.glob("rwk*"))
    assert [path.name for path in (environment.site / "rewardkit").rglob("*.py")] == ["runner.py"]


def test_ours_is_installed_after_the_other(environment: Environment) -> None:
    """Both commands are ours; both name the clash, the files and the remedy, and so does ``rewardkit doctor``."""
    environment.install(OTHER, OURS)
    for command in ("rewardkit", "rwk"):
        done = environment.run(command, "--version")
        assert (done.returncode, done.stdout) == (0, "rewardkit 0.1.0\n")
        assert done.stderr.count("warning: ") == 1
        assert "harbor-rewardkit 9.0 is installed in this environment, too" in done.stderr
        assert "(rewardkit, rewardkit/__init__.py, rewardkit/__main__.py)" in done.stderr
    found = environment.problem("rewardkit")
    assert (found["status"], found["remedy"]) == ("problem", UNINSTALL)


def test_the_other_is_uninstalled_that_was_installed_first(environment: Environment) -> None:
    """Our files are gone with it: ``rwk`` still works, and names the remedy."""
    environment.install(OTHER, OURS)
    environment.uninstall(OTHER)
    assert not (environment.folder / "bin" / "rewardkit").exists()
    assert_rwk_works(environment, "rewardkit/__init__.py is missing, as it is after harbor-rewardkit")
    found = environment.problem()
    assert (found["status"], found["remedy"]) == ("problem", REINSTALL)


def test_the_other_is_installed_after_ours(environment: Environment) -> None:
    """Its command has replaced ours; ``rwk`` works, scores in worker processes, and names the distribution and the remedy."""
    environment.install(OURS, OTHER)
    assert environment.run("rewardkit", "doctor").stdout == "this is the other\n"
    assert_rwk_works(environment, "harbor-rewardkit 9.0 has overwritten rewardkit/__init__.py")
    found = environment.problem()
    assert (found["status"], found["remedy"]) == ("problem", UNINSTALL)
    assert UNINSTALL in environment.run("python", "-m", "rwk", "--version").stderr


def test_more_files_were_replaced_than_rwk_can_do_without(environment: Environment) -> None:
    """``rwk`` refuses to run with a module of another distribution: it names the file and the remedy, without a traceback."""
    environment.install(OURS, OTHER)
    with replaced(environment.site / "rewardkit" / "types.py", "Score = int\n"):
        done = environment.run("rwk", "score")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: files of rewardkit are missing or differ from those installed: rewardkit/types.py; "
    )
    assert done.stderr.count("\n") == 1
    assert UNINSTALL in done.stderr


def test_the_other_is_uninstalled_that_was_installed_last(environment: Environment) -> None:
    """``rwk`` still works, and following its remedy makes ``rewardkit`` work again."""
    environment.install(OURS, OTHER)
    environment.uninstall(OTHER)
    assert_rwk_works(environment, "rewardkit/__init__.py is missing, as it is after harbor-rewardkit")
    environment.install(OURS)
    done = environment.run("rewardkit", "--version")
    assert (done.stdout, done.stderr) == ("rewardkit 0.1.0\n", "")
    assert environment.problem("rewardkit")["status"] == "ok"


def test_worker_processes_name_the_cause(environment: Environment) -> None:
    """If the package is replaced while a process of ours runs, the worker processes say so, and what to do."""
    environment.install(OURS)
    program = f"""
        from pathlib import Path
        import rewardkit
        from rewardkit.errors import WorkerError
        from rewardkit.process_pool import ProcessPool
        Path(rewardkit.__file__).write_text({FILES["rewardkit/__init__.py"]!r})
        try:
            ProcessPool(print, 1).submit([1]).result()
        except WorkerError as error:
            print(error)
    """
    init = environment.site / "rewardkit" / "__init__.py"
    with replaced(init, init.read_text()):
        done = environment.run("python", "-c", textwrap.dedent(program))
    assert "the package rewardkit has been replaced or deleted on disk (" in done.stdout
    assert REINSTALL in done.stdout
    assert done.stderr == ""


def test_doctor_names_changed_files(environment: Environment) -> None:
    """Without a clash, too, ``doctor`` reports files that differ from those installed."""
    environment.install(OURS)
    errors = environment.site / "rewardkit" / "errors.py"
    with replaced(errors, errors.read_text() + "# patched\n"):
        found = environment.problem("rewardkit")
    assert found["detail"] == "files of rewardkit are missing or differ from those installed: rewardkit/errors.py"
