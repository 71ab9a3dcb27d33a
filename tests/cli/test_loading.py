"""Ctrl-C while libraries are imported."""

from __future__ import annotations

import signal
import subprocess
import sys

from rewardkit.cli.support.loading import exit_on_interrupt

SWALLOWS = """
import signal
from rewardkit.cli.support.loading import exit_on_interrupt
with exit_on_interrupt():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass
print("went on")
"""


def test_an_import_can_not_swallow_it():
    """The process ends, as one that was interrupted."""
    done = subprocess.run([sys.executable, "-c", SWALLOWS], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_afterwards_it_is_what_it_was():
    """Whoever comes next handles it in their own way."""
    before = signal.getsignal(signal.SIGINT)
    with exit_on_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
