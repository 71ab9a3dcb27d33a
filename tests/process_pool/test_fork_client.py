"""Starting the fork server."""

import sys
from pathlib import Path

import pytest

import rewardkit
from rewardkit.errors import WorkerError
from rewardkit.process_pool import ProcessPool
from rewardkit.process_pool.fork_client import ForkClient, describe_exit


@pytest.mark.parametrize(
    ("code", "description"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-11, "SIGSEGV"),
        (-9, "SIGKILL, perhaps out of memory"),
        (-34, "SIGRTMIN"),
        (-63, "signal 63"),
        (-99, "signal 99"),
    ],
)
def test_exits_are_described(code: int, description: str) -> None:
    """Exit codes and signals have names; a kill may have been the kernel's."""
    assert describe_exit(code) == description


def test_a_damaged_package_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has imported another distribution's package gets an error that says how to repair the installation."""
    monkeypatch.delattr(rewardkit, "__version__")
    with pytest.raises(
        WorkerError, match=r"the imported package rewardkit is damaged, .*; `rwk doctor` .*`pip install "
    ):
        ForkClient(len)


def test_an_interpreter_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the interpreter is gone, the error says so."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WorkerError, match=r"worker processes can't be started: .*No such file"):
        ForkClient(len)


@pytest.mark.parametrize(
    ("init", "cause"),
    [
        ("__version__ = 'another'", "ImportError: it is {folder}/rewardkit/__init__.py"),
        ("raise SyntaxError('newer syntax')", "SyntaxError: newer syntax"),
        (None, "ImportError: it is a folder without __init__.py"),
    ],
)
def test_another_package_on_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str | None, cause: str
) -> None:
    """The fork server runs nothing of another package or version that has taken the place of ours."""
    (tmp_path / "rewardkit").mkdir()
    if init is not None:
        (tmp_path / "rewardkit" / "__init__.py").write_text(init)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(entry for entry in sys.path if "site-packages" not in entry)])
    if init is None:  # a folder without __init__.py counts only if there is no package further along
        root = str(Path(rewardkit.__file__).parents[1])
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {root, ""}])
    pool = ProcessPool(len, 1)
    try:
        with pytest.raises(WorkerError) as raised:
            pool.submit(["task"]).result(60)
    finally:
        pool.close()
    assert f"rewardkit has been replaced or deleted on disk ({cause.format(folder=tmp_path)})" in str(raised.value)
    assert "pip install" in str(raised.value)
