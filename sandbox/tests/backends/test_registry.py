"""Backends of other distributions: found by an entry point, opened by name, and held to the same contract."""

import importlib
import itertools
import textwrap

import pytest
from sandbox_support import opened

from rewardkit_sandbox import Limits, Program, Stdin, Unavailable, identify, open_sandbox
from rewardkit_sandbox.checks import host_checks
from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.testing import SandboxContract

TINY = """
from rewardkit_sandbox import Property
from rewardkit_sandbox.backends.bubblewrap import BubblewrapBackend


class TinyBackend(BubblewrapBackend):
    name = "tiny"

    def identity(self):
        return f"tiny 7 {self.options.image}"

    def diagnose(self):
        yield Property("tiny machines", False, "none", "buy one")
"""
_numbers = itertools.count()


def install(site, code, name="tiny", distribution="acme-boxes", attribute="TinyBackend"):
    """Install a backend as pip would: a module and a distribution with an entry point."""
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


def test_it_holds_the_contract(site):
    """A tiny backend in another distribution runs programs, calls and test code as a built-in one does."""
    opened("bubblewrap", slots=1).close()
    install(site, TINY)
    contract = SandboxContract()
    with open_sandbox("tiny", slots=2, limits=Limits(cpu_s=2, wall_s=8)) as box:
        contract.test_output_and_exit_code(box)
        contract.test_an_endless_loop_times_out(box)
        contract.test_nothing_is_left_for_the_next_program(box)
        contract.test_calls(box)
        contract.test_unit_tests(box)


def test_it_is_listed_and_never_taken_by_auto(site):
    """An installed backend is listed, but `auto` chooses only built-in ones."""
    install(site, TINY)
    assert registry.names() == ["docker", "bubblewrap", "remote", "tiny"]
    with opened("auto", slots=1) as box:
        assert not box.description.startswith("tiny")
        assert box.run(Program("print(1)"), [Stdin("")]).runs[0].text == "1\n"


def test_it_says_what_results_are_cached_under(site):
    """Its identity contains the version of this package, as for a built-in backend."""
    install(site, TINY)
    assert identify("tiny", "python").endswith(" tiny 7 python")


def test_its_diagnosis_is_told(site):
    """Its missing requirements are among the findings, each with a remedy."""
    install(site, TINY)
    found = {each.name: each for each in host_checks.check_host()}
    assert found["backend tiny"].holds
    assert (found["tiny machines"].holds, found["tiny machines"].remedy) == (False, "buy one")


def test_a_sandbox_of_its_own(site):
    """A backend whose sandbox is no pool of boxes is used through the same interface."""
    code = """
    from rewardkit_sandbox import Execution, Result, SandboxBackend

    class Echo:
        size, limits = 1, None
        def __init__(self, description): self.description = description
        def run(self, program, cases, limits=None, *, isolation="fresh", stop=None):
            return Result(tuple(Execution("ok", case.data) for case in cases))
        def close(self): pass
        def __enter__(self): return self
        def __exit__(self, *_): pass

    class TinyBackend(SandboxBackend):
        def identity(self): return None
        def diagnose(self): yield from ()
        def open(self, description): return Echo(description)
    """
    install(site, code)
    with open_sandbox("tiny") as box:
        assert box.description == "tiny (as asked)"
        assert box.run(Program(""), [Stdin("x")]).runs[0].text == "x"
    assert identify("tiny") is None


def test_an_unknown_name(site):
    """The message lists those there are."""
    install(site, TINY)
    with pytest.raises(ValueError, match="unknown backend 'tinny'; there are auto, docker, bubblewrap, remote, tiny"):
        open_sandbox("tinny")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise OSError('no licence')", "of acme-boxes 1.5 can't be loaded: OSError: no licence"),
        ("class Other: pass", "of acme-boxes 1.5 can't be loaded: AttributeError"),
        ("class TinyBackend: pass", "of acme-boxes 1.5 is not a subclass of rewardkit_sandbox.SandboxBackend"),
        (
            TINY + "    def open(self, description): raise KeyError('token')\n",
            "of acme-boxes 1.5 failed: KeyError: 'token'",
        ),
    ],
)
def test_one_that_fails_is_no_sandbox(site, code, said):
    """An exception in a backend's code becomes `Unavailable` with its distribution; no other backend is opened instead."""
    install(site, code)
    with pytest.raises(Unavailable, match=said):
        open_sandbox("tiny")


def test_two_of_one_name(site):
    """Neither is taken."""
    install(site, TINY)
    install(site, TINY, distribution="other-boxes")
    with pytest.raises(Unavailable, match=r"offered twice, by .*acme-boxes 1.5.*; uninstall one"):
        open_sandbox("tiny")
    found = {each.name: each for each in host_checks.check_host()}
    assert not found["backend tiny"].holds


def test_a_built_in_can_not_be_replaced(site):
    """An entry point called like a backend that comes along is not asked."""
    install(site, "raise AssertionError", name="docker")
    assert registry.names() == ["docker", "bubblewrap", "remote"]


@pytest.mark.parametrize(
    ("backend", "options", "said"),
    [
        ("remote", {}, "needs the address of its service: set url"),
        ("docker", {"url": "http://127.0.0.1:9"}, "url is an option of the backend `remote`"),
        ("bubblewrap", {"runtime": "runsc"}, "a runtime is an option of the Docker backend"),
    ],
)
def test_options_of_another_backend(backend, options, said):
    """Options of another backend are refused, and the message names that backend."""
    with pytest.raises(ValueError, match=said):
        open_sandbox(backend, **options)


def test_entry_points_are_read_once(monkeypatch):
    """Backends are looked up for every row that is scored, so installed distributions are not read each time."""
    registry._entry_points_on.cache_clear()
    read = []
    original = registry.importlib.metadata.entry_points
    monkeypatch.setattr(
        registry.importlib.metadata, "entry_points", lambda **which: read.append(which) or original(**which)
    )
    assert registry.names() == registry.names()
    assert len(read) == 1
