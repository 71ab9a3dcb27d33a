"""Scoring in threads and processes of this machine."""

from __future__ import annotations

import subprocess
import sys

HANGING = """
import threading, time
from rewardkit.scoring.engines.local import in_threads

began = threading.Event()

def hang(chunk):
    began.set()
    time.sleep(3600)

print(list(in_threads(hang, iter([1, 2]), began.is_set)))
"""


def test_an_interrupted_program_does_not_wait_for_a_chunk() -> None:
    """A program that is asked to stop ends although threads still score their chunks."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
