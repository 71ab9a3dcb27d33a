"""What `rwk.installation` finds, without installing anything."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rewardkit
from rewardkit.cli import main
from rwk import installation

SCRIPT = "../../../bin/rewardkit"
AddDistribution = Callable[..., None]


@pytest.fixture
def add_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddDistribution:
    """Put the metadata of a distribution on the path: its name and its files."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    def add(name: str, *files: str, version: str = "1.0") -> None:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))

    return add


def test_a_healthy_start_reads_no_metadata() -> None:
    """Without a clash a start loads no module for metadata, which would cost more than the check itself."""
    code = (
        "import sys; from rwk.installation import find_problem; assert find_problem() is None; "
        "print({'importlib.metadata', 'csv', 'hashlib', 'click', 'rewardkit'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_checkout_is_hidden_by_the_other(add_distribution: AddDistribution) -> None:
    """In an editable installation the other's package comes first on the path; the remedy installs the checkout again."""
    add_distribution("harbor-rewardkit", "rewardkit/__init__.py", SCRIPT, version="0.2.3")
    problem = installation.find_problem()
    assert problem is not None
    assert problem.detail.startswith("harbor-rewardkit 0.2.3 is installed in this environment, too, ")
    checkout = Path(rewardkit.__file__).parents[1]
    assert problem.remedy == f"pip uninstall harbor-rewardkit && pip install --no-deps -e {checkout}"


def test_a_later_version_with_other_names_is_no_clash(add_distribution: AddDistribution) -> None:
    """What counts is the files, not the name."""
    add_distribution("harbor-rewardkit", "harbor_rewardkit/__init__.py")
    assert installation.find_problem() is None


def test_an_unknown_distribution_with_our_files_is_found(add_distribution: AddDistribution) -> None:
    """The thorough search asks every distribution, and survives metadata without names or files."""
    add_distribution("another", "another.py", "rewardkit/__main__.py")
    add_distribution("plugin", "rewardkit_plugin/__init__.py")
    add_distribution("")
    assert installation.find_problem() is None
    problem = installation.find_problem(thorough=True)
    assert problem is not None
    assert problem.remedy.startswith("pip uninstall another && ")


@pytest.mark.parametrize(("rank", "warnings"), [(None, 1), ("0", 1), ("1", 0)])
def test_one_process_of_a_run_warns(
    add_distribution: AddDistribution,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    rank: str | None,
    warnings: int,
) -> None:
    """A start warns on stderr; of the processes that ``torchrun`` starts, the first alone does."""
    add_distribution("harbor-rewardkit", "rewardkit/__init__.py")
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert out == f"rewardkit {rewardkit.__version__}\n"
    assert err.count("warning: ") == warnings


def test_rwk_finds_its_own_package_behind_another(tmp_path: Path) -> None:
    """``rwk`` of a checkout and its child processes import the checkout, though another package comes first on the path."""
    (tmp_path / "rewardkit").mkdir()
    (tmp_path / "rewardkit" / "__init__.py").write_text("raise ImportError('this is the other')")
    code = (
        "import subprocess, sys; from rwk.installation import put_own_package_first; put_own_package_first(); "
        "sys.exit(subprocess.call([sys.executable, '-c', 'import rewardkit; print(rewardkit.__file__)']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.strip(), done.stderr) == (rewardkit.__file__, "")


def test_a_name_for_usage(capsys: pytest.CaptureFixture) -> None:
    """Usage messages name the command that was called."""
    with pytest.raises(SystemExit):
        main(["--help"], prog_name="rwk")
    assert capsys.readouterr().out.startswith("Usage: rwk [OPTIONS]")
