"""A model and data so small that a test trains it in seconds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")
pytest.importorskip("transformers", reason="training needs transformers: pip install 'rewardkit[train]'")

ROOT = Path(__file__).parents[2]


def build_module():
    """examples/train/build.py as a module."""
    if "rewardkit_example_build" not in sys.modules:
        spec = importlib.util.spec_from_file_location("rewardkit_example_build", ROOT / "examples/train/build.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["rewardkit_example_build"] = module
        spec.loader.exec_module(module)
    return sys.modules["rewardkit_example_build"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests share the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A folder with a tiny random model (base) and the example's data."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("work")
    build = build_module()
    build.write_data(folder)
    build.write_model(folder / "base", hidden=32, layers=2)
    return folder


@pytest.fixture
def policy(work):
    """A policy of its own, with random weights."""
    from rewardkit.train.config import ModelConfig
    from rewardkit.train.policy import Policy

    return Policy.load(ModelConfig(path=str(work / "base")))
