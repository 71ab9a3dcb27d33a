"""One training run at a time writes into an output folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rewardkit.errors import UsageError
from rewardkit.train.trainer.run_lock import exclusive, lock_file

HOLDER = """
import sys
from pathlib import Path
from rewardkit.train.trainer.run_lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of ``tmp_path/run`` until its input is closed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path, holder) -> None:
    """The error names the process that trains into the folder."""
    refused = pytest.raises(UsageError, match=rf"run is in use: another training run \(process {holder.pid} on ")
    with refused, exclusive(tmp_path / "run"):
        pytest.fail("two runs hold one folder")


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path, holder) -> None:
    """A run that was killed leaves its lock file behind, and it blocks nobody."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert lock_file(tmp_path / "run").exists()
    with exclusive(tmp_path / "run"):
        pass


def test_the_lock_file_is_removed_at_the_end(tmp_path: Path) -> None:
    """A run that ended leaves no lock file, and another may follow."""
    for _ in range(2):
        with exclusive(tmp_path / "run"):
            assert lock_file(tmp_path / "run").is_file()
        assert list(tmp_path.iterdir()) == []


def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    """What an earlier run wrote into the file doesn't matter once nobody holds it."""
    lock_file(tmp_path / "run").write_bytes(b"\xff{")
    with exclusive(tmp_path / "run"):
        pass
