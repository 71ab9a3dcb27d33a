"""Tensors in files: what writing takes, and that reading gives the same back."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from rewardkit.train.distributed.sharded_files import read_tensors, stored_tensors, write_tensors

PEAK, NEW_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mb():
    """The largest resident memory of this process so far."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB", PEAK.read_text(), re.MULTILINE)[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_writing_takes_no_memory_of_the_size_of_the_tensors(tmp_path):
    """Files are written from the memory of the tensors, so that a run that fits while it trains fits while it saves."""
    write_tensors(tmp_path, {"small": torch.ones(3)})  # imports
    large = torch.ones(32 << 20)  # 128 MB
    NEW_PEAK.write_text("5")
    before = peak_mb()
    write_tensors(tmp_path, {"large": large})
    assert peak_mb() - before < 32


def test_what_is_no_contiguous_part_of_memory_is_read_back(tmp_path):
    """A transposed tensor, and a part of a larger one, are written as what they show."""
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"transposed": whole.t(), "part": whole[1:], "number": torch.tensor(7.0)}
    write_tensors(tmp_path, tensors)
    into = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in stored_tensors(tmp_path).items()}
    read_tensors(tmp_path, into)
    assert all(torch.equal(into[name], value) for name, value in tensors.items())
