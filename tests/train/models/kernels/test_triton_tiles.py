"""Triton's kernels compute what torch's own operations compute. On a CPU Triton interprets them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)


def facts_of(script, folder, **environment):
    """Return what a script finds in a process of its own."""
    file = folder / f"{script}.json"
    command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), str(file)]
    environment |= {"OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(folder / "cache")}
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Return the results of interpreted kernels."""
    return facts_of("interpreted", tmp_path_factory.mktemp("kernels"), TRITON_INTERPRET="1")


@pytest.mark.slow
def test_all_kinds_of_heads_agree_with_torch(interpreted):
    """Log-probabilities, entropies and gradients agree to 1e-5 for each head, scaling and data type, over blocks and tiles."""
    assert len(interpreted["cases"]) == 12
    assert {case: value for case, value in interpreted["cases"].items() if not value <= 1e-5} == {}


@pytest.mark.slow
def test_the_comparison_at_the_start_accepts_them(interpreted):
    """A run with ``logprob_kernel: triton`` gets them."""
    assert interpreted["is_chosen"]


@pytest.mark.slow
def test_they_compile_for_a_gpu(tmp_path):
    """Triton's compiler makes binaries for both kernels, in both data types, with and without a cap."""
    sizes = facts_of("compiled", tmp_path)
    assert len(sizes) == 12
    assert min(sizes.values()) > 0
