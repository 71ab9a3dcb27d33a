"""Tiny tensors: more threads than one only cost time."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Keep torch to one thread, and give back what it had."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
