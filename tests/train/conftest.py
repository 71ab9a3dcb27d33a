"""A model and data that a test trains in seconds."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")
pytest.importorskip("transformers", reason="training needs transformers: pip install 'rewardkit[train]'")

ROOT = Path(__file__).parents[2]

sys.path.append(str(Path(__file__).parent))
from warm_processes import WarmProcess  # noqa: E402 - a module beside this file, which the started processes import, too


def build_module():
    """Import examples/train/build.py."""
    if "rewardkit_example_build" not in sys.modules:
        spec = importlib.util.spec_from_file_location("rewardkit_example_build", ROOT / "examples/train/build.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["rewardkit_example_build"] = module
        spec.loader.exec_module(module)
    return sys.modules["rewardkit_example_build"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread, since tests share the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Return a folder with a tiny random model (base) and the example's data."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("work")
    build = build_module()
    build.write_data(folder)
    build.write_model(folder / "base", hidden=32, layers=2)
    return folder


@pytest.fixture
def policy(work):
    """Return a new policy with random weights."""
    from rewardkit.train.config import ModelConfig
    from rewardkit.train.models.policy import Policy

    return Policy.load(ModelConfig(path=str(work / "base")))


@pytest.fixture(scope="session")
def in_processes(tmp_path_factory):
    """Return a function that calls another one in several connected processes, and returns what each of them returned.

    The processes are forked, so nothing is imported again. torch can't compute gradients in them.
    """
    import torch
    from torch import distributed

    def call(rank, size, folder, function):
        torch.set_num_threads(1)
        if size > 1:
            distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
        torch.save(function(), folder / f"{rank}.part")
        (folder / f"{rank}.part").rename(folder / f"{rank}.pt")
        if size > 1:
            distributed.barrier()
        os._exit(0)

    def run(size, function):
        folder = tmp_path_factory.mktemp("processes")
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=call, args=(rank, size, folder, function)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            process.kill()
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]

    return run


@pytest.fixture
def start_world():
    """Return a function that starts connected Python processes; those still running at the end are killed."""
    started = []

    def start(arguments, processes, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        new = []
        for rank in range(processes):
            own = {**world, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
            settings = {"ACCELERATE_USE_CPU": 1, "COLUMNS": 200, "OMP_NUM_THREADS": 1, **environment, **own}
            new.append(WarmProcess(arguments, os.environ | {name: str(value) for name, value in settings.items()}))
        started.extend(new)
        return new

    yield start
    for process in started:
        with process:
            process.kill()
