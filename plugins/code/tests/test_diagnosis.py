"""The plugin's findings for `rewardkit doctor`."""

from rewardkit_code import diagnosis
from rewardkit_sandbox import Property, Unavailable

from rewardkit import Registry


def told(monkeypatch, walls, other=None):
    """Return the findings by name for these results of the isolation checks."""

    def check(backend):
        if isinstance(found := walls if backend == "auto" else other, Exception):
            raise found
        return ("docker (an engine answers)" if backend == "auto" else backend), found

    monkeypatch.setattr(diagnosis, "check_isolation", check)
    monkeypatch.setattr(diagnosis, "check_host", lambda: [Property("gVisor", False, "runc alone", "install runsc")])
    return {finding.name: finding for finding in diagnosis.findings()}


def test_it_is_offered():
    """The hook is found by the registry under the plugin's name."""
    assert [provenance.plugin for provenance, _ in Registry.load(only={"code"}).diagnoses()] == ["code"]


def test_what_auto_takes_must_hold(monkeypatch):
    """A failed check of the backend in use is a problem; a feature that is merely absent is a note with a remedy."""
    found = told(monkeypatch, [Property("no network", False, "families [2]")], [Property("no network", True, "")])
    assert (found["gVisor"].status, found["gVisor"].remedy) == ("note", "install runsc")
    assert found["sandbox"].detail == "auto takes docker (an engine answers)"
    assert found["no network"].status == "problem"
    assert found["or bubblewrap"].status == "ok"


def test_the_other_backend_may_be_weaker(monkeypatch):
    """A failed check of the backend that is not in use is a note."""
    found = told(monkeypatch, [], [Property("memory of all processes bounded", False, "1600 MiB fitted")])
    assert (found["or bubblewrap"].status, found["or bubblewrap"].detail) == (
        "note",
        "memory of all processes bounded: 1600 MiB fitted",
    )
    assert told(monkeypatch, [], Unavailable("no bwrap"))["or bubblewrap"].status == "note"


def test_no_sandbox_is_a_problem(monkeypatch):
    """If no backend works, that is a problem with its reasons."""
    found = told(monkeypatch, Unavailable("no engine answers"))
    assert (found["sandbox"].status, found["sandbox"].detail) == ("problem", "no engine answers")


def test_without_any_backend_the_remedy_is_to_install_one(monkeypatch):
    """An image can't be built or run where neither Docker nor bubblewrap is there."""
    install = Property("bubblewrap", False, "not installed", "apt-get install bubblewrap")
    engine = Property("Docker engine", False, "no engine answers", "start it")

    def check(_backend):
        raise Unavailable("no sandbox can be opened here")

    monkeypatch.setattr(diagnosis, "check_isolation", check)
    for host, remedy in (([engine, install], install.remedy), ([install], "rewardkit sandbox build python")):
        monkeypatch.setattr(diagnosis, "check_host", lambda found=host: found)
        assert [each.remedy for each in diagnosis.findings()][-1] == remedy
