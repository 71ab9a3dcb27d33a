"""Both local backends hold the contract."""

import pytest
from sandbox_support import opened

from rewardkit_sandbox import Limits
from rewardkit_sandbox.testing import SandboxContract


class TestDocker(SandboxContract):
    """Containers."""

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls):
        with opened("docker", slots=2, limits=Limits(cpu_s=2, wall_s=8)) as box:
            yield box


class TestBubblewrap(SandboxContract):
    """Namespaces."""

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls):
        with opened("bubblewrap", slots=2, limits=Limits(cpu_s=2, wall_s=8)) as box:
            yield box
