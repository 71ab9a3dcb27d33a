"""Backends of other distributions: found by an entry point, opened by name, and held to the same contract."""

import importlib
import itertools
import sys
import textwrap

import pytest
from sandbox_support import opened

from rewardkit_sandbox import Limits, Program, Stdin, Unavailable, open_sandbox
from rewardkit_sandbox.checks import host_checks
from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.testing import SandboxContract

TINY = """
from rewardkit_sandbox import Sandbox
from rewardkit_sandbox.images import building
from rewardkit_sandbox.backends.bubblewrap import BubblewrapBackend
from rewardkit_sandbox.host.pool import Pool


def open_tiny(*, slots, image, limits, runtime, preimport):
    pool = Pool(BubblewrapBackend(building.root(image), limits, preimport=preimport), slots)
    pool.open()
    return Sandbox(pool, limits, "tiny (as asked)")
"""
_numbers = itertools.count()


def install(site, code, name="tiny", distribution="acme-boxes", attribute="open_tiny"):
    """As pip would: a module and a distribution with an entry point."""
    module = f"backend_of_a_test_{next(_numbers)}"
    info = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}:{attribute}\n")
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


class TestThirdParty(SandboxContract):
    """A tiny backend in another distribution holds the contract."""

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls, tmp_path_factory):
        opened("bubblewrap", slots=1).close()
        site = tmp_path_factory.mktemp("third") / "site"
        sys.path.insert(0, str(site))
        try:
            install(site, TINY)
            with open_sandbox("tiny", slots=2, limits=Limits(cpu_s=2, wall_s=8)) as box:
                yield box
        finally:
            sys.path.remove(str(site))


def test_it_is_listed_and_never_taken_by_auto(site):
    """It is among the names and told by the machine's check; `auto` takes a backend that comes along."""
    install(site, "def open_tiny(**_): raise AssertionError")
    assert registry.names() == ["docker", "bubblewrap", "tiny"]
    assert next(each for each in host_checks._third_parties()).holds
    with opened("auto", slots=1) as box:
        assert box.run(Program("print(1)"), [Stdin("")]).runs[0].text == "1\n"


def test_an_unknown_name(site):
    """The message lists those there are."""
    install(site, TINY)
    with pytest.raises(ValueError, match="unknown backend 'tinny'; there are auto, docker, bubblewrap, tiny"):
        open_sandbox("tinny")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise OSError('no licence')", "of acme-boxes 1.5 can't be loaded: OSError: no licence"),
        ("def open_other(): pass", "of acme-boxes 1.5 can't be loaded: AttributeError"),
        ("def open_tiny(**_): raise KeyError('token')", "of acme-boxes 1.5 failed: KeyError: 'token'"),
    ],
)
def test_one_that_fails_is_no_sandbox(site, code, said):
    """Whatever its code raises is `Unavailable` with whose it is; nothing else is opened in its place."""
    install(site, code)
    with pytest.raises(Unavailable, match=said):
        open_sandbox("tiny")


def test_two_of_one_name(site):
    """Neither is taken."""
    install(site, TINY)
    install(site, TINY, distribution="other-boxes")
    with pytest.raises(Unavailable, match=r"offered twice, by .*acme-boxes 1.5.*; uninstall one"):
        open_sandbox("tiny")
    assert not next(each for each in host_checks._third_parties()).holds


def test_a_built_in_can_not_be_replaced(site):
    """An entry point called like a backend that comes along is not asked."""
    install(site, "raise AssertionError", name="docker")
    assert registry.names() == ["docker", "bubblewrap"]
