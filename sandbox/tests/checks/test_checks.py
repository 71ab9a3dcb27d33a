"""The findings about this machine, and the detection of missing isolation."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from sandbox_support import BACKENDS, opened

from rewardkit_sandbox import Execution, Limits, Property, Unavailable
from rewardkit_sandbox.checks import isolation_checks
from rewardkit_sandbox.checks import host_checks
from rewardkit_sandbox.cli import main


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_property_holds(backend):
    """Each property holds on each backend that works here."""
    opened(backend, slots=1).close()
    _, properties = isolation_checks.check_isolation(backend)
    assert len(properties) >= 16
    assert [each for each in properties if not each.holds] == []


LOOKED = {
    "python": "3.11.2",
    "capabilities": ["000001ffffffffff"] * 5,
    "no_new_privs": "0",
    "seccomp": "0",
    "uid": 0,
    "sockets": [2, 10],
    "interfaces": ["lo", "eth0"],
    "writable": ["/"],
    "processes": [7],
    "server": True,
    "namespaces": True,
    "mount": True,
    "environment": ["HOME", "SECRET"],
    "descriptors": [0, 1, 2, 3],
}


class Bare:
    """Answers what programs would see without isolation; running them for real would harm this machine."""

    def run(self, program, cases, limits):
        answers = {
            "capabilities": json.dumps(LOOKED),
            "/tmp/fill": "512 99999",
            "5000": "5000",
            "bytearray": "8",
            "while True": "",
            "/dev/shm": "['left'] [] []",
        }
        text = next(answer for key, answer in answers.items() if key in program.source)
        return SimpleNamespace(runs=[Execution("ok", text.encode())])


def test_missing_isolation_is_seen():
    """Without a sandbox not a single property holds."""
    properties = list(isolation_checks._properties(Bare(), Limits()))
    assert [each.name for each in properties if each.holds] == []


def test_what_is_missing_is_told_with_what_to_do(monkeypatch, tmp_path):
    """Neither engine, bubblewrap, images nor control groups: each is a row with a remedy, and nothing raises."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("REWARDKIT_SANDBOX_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("rewardkit_sandbox.backends.cgroups.make", lambda **_: None)
    found = {each.name: each for each in host_checks.check_host()}
    for name in ("Docker engine", "bubblewrap", "control groups for bubblewrap", "images"):
        assert not found[name].holds and found[name].remedy, name


def test_the_command_for_machines(monkeypatch):
    """--json has the machine and each backend; a property that does not hold ends with 1, an unknown backend with 2."""
    monkeypatch.setattr(host_checks, "check_host", lambda image: [Property("gVisor", False, "runc", "install runsc")])
    monkeypatch.setattr(
        "rewardkit_sandbox.cli.check_isolation",
        lambda name, image: (name, [Property("no network", name == "docker", "seen")]),
    )
    done = CliRunner().invoke(main, ["check", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["machine"]["gVisor"] == {"holds": False, "detail": "runc", "remedy": "install runsc"}
    assert report["docker"]["properties"]["no network"]["holds"] is True
    assert CliRunner().invoke(main, ["check", "--json", "--backend", "docker"]).exit_code == 0
    assert CliRunner().invoke(main, ["check", "--backend", "nonsense"]).exit_code == 2


def test_the_command_without_a_sandbox(monkeypatch):
    """A machine where none works ends with 1 and says why."""

    def none(name, image):
        raise Unavailable("no engine answers")

    monkeypatch.setattr("rewardkit_sandbox.cli.check_isolation", none)
    done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 1
    assert "docker: not available: no engine answers" in done.output
