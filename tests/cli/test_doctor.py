"""``rewardkit doctor``."""

import json
import subprocess
import sys

import pytest

from rewardkit import Finding
from rewardkit.cli import doctor, run

DIAGNOSED = """
    import rewardkit
    from rewardkit import Finding, reward

    @reward("acme.pal")
    def palindrome(rollout) -> float:
        return 1.0

    @rewardkit.hookimpl
    def diagnose():
        yield Finding("engine [7]", "ok", "answers")
        yield Finding("licence", "note", "expires soon", "buy another")
        {more}
"""


@pytest.fixture(autouse=True)
def only_this(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the installed plugins nor the installed libraries are asked: the tests tell of their own."""
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "rewardkit-*")
    monkeypatch.setattr(doctor, "LIBRARIES", ())


def told(capsys: pytest.CaptureFixture, code: int) -> dict[str, dict[str, dict]]:
    """The findings by area and name."""
    assert run(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    areas = {area["area"]: {finding.pop("name"): finding for finding in area["findings"]} for area in report["areas"]}
    found = [finding["status"] for findings in areas.values() for finding in findings.values()]
    assert report["problems"] == found.count("problem")
    return areas


def test_a_healthy_machine(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """Versions, room and plugins are told, and it ends with 0."""
    install_plugin(DIAGNOSED.format(more=""), version="1.5")
    areas = told(capsys, 0)
    assert list(areas) == ["rewardkit", "machine", "plugins", "libraries", "acme 1.5"]
    assert sys.executable in areas["rewardkit"]["Python"]["detail"]
    assert {"cores", "memory", "disk here"} <= set(areas["machine"])
    assert areas["plugins"]["acme"] == {"status": "ok", "detail": "acme 1.5, 1 reward", "remedy": ""}
    assert areas["acme 1.5"]["licence"] == {"status": "note", "detail": "expires soon", "remedy": "buy another"}


def test_the_table(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """People get a table with what to do, and the number of problems."""
    install_plugin(DIAGNOSED.format(more='yield Finding("disk", "problem", "full")'))
    assert run(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "✓ engine [7] answers – licence expires soon → buy another ✗ disk full" in out
    assert out.endswith("1 problem")


def test_a_broken_plugin_is_a_problem(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A plugin that can't be used is told with its cause, and a clash by both names."""
    install_plugin("raise ValueError('no licence')", "bad", "2.0")
    install_plugin(DIAGNOSED.format(more=""), "one")
    install_plugin(DIAGNOSED.format(more=""), "two")
    plugins = told(capsys, 1)["plugins"]
    assert plugins["bad"]["status"] == "problem"
    assert "bad 2.0 is broken: ValueError: no licence" in plugins["bad"]["detail"]
    assert "'acme.pal' is offered by more than one plugin: one 1.0" in plugins["clash"]["detail"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("raise OSError('no engine')", "its diagnosis failed: OSError: no engine"),
        ("raise SystemExit(3)", "its diagnosis failed: SystemExit: 3"),
        ("yield 'fine'", "its diagnosis failed: TypeError: diagnose returned a str, not a Finding"),
        ("yield Finding('x', 'good')", "a finding's status is one of ok, note, problem, not 'good'"),
    ],
)
def test_a_diagnosis_that_fails_is_a_finding(
    install_plugin, capsys: pytest.CaptureFixture, more: str, said: str
) -> None:
    """An exception in a plugin's diagnosis is reported under the plugin's name, after its earlier findings."""
    install_plugin(DIAGNOSED.format(more=more))
    area = told(capsys, 1)["acme 1.0"]
    assert list(area) == ["engine [7]", "licence", "acme"]
    assert area["acme"]["status"] == "problem"
    assert said in area["acme"]["detail"]


def test_what_is_not_installed_can_be(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent plugins and libraries are no problem, and come with the line that installs them."""
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "")
    monkeypatch.setattr(doctor, "LIBRARIES", (doctor.Library("no_such_module", "nothing", "pip install nothing"),))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])
    areas = told(capsys, 0)
    assert areas["libraries"]["no_such_module"]["remedy"] == "pip install nothing"
    assert areas["plugins"]["reward_model"]["remedy"] == "pip install 'rewardkit[reward-model]'"


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("__version__ = '3'", "ok", "3, yes; for tests"),
        ("raise ValueError('a half installed one')", "problem", "can't be imported: ValueError: a half installed one"),
        ("import os\nos.abort()", "problem", "can't be imported: exit code -6"),
    ],
)
def test_libraries_are_imported(tmp_path, monkeypatch: pytest.MonkeyPatch, source: str, status: str, said: str) -> None:
    """A library that is there and can't be imported is a problem, even if importing it ends the process."""
    (tmp_path / "odd_library.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = doctor._library(doctor.Library("odd_library", "tests", "pip install odd", "'yes'"))
    assert (found.status, found.detail) == (status, said)


def test_libraries_that_hang(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that does not end is told as such."""
    (tmp_path / "slow_library.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "IMPORT_LIMIT_S", 0.1)
    assert doctor._library(doctor.Library("slow_library", "tests", "")).status == "problem"


def test_little_room_is_noted() -> None:
    """Under a gibibyte is little, and says what to do."""
    assert doctor._room("disk", 5 << 20, 1 << 40, "make room") == Finding(
        "disk", "note", "0.0 of 1024.0 GiB free", "make room"
    )


def test_the_core_knows_no_sandbox() -> None:
    """The command itself imports no plugin."""
    code = "import rewardkit.cli.doctor, sys; print([name for name in sys.modules if name.startswith('rewardkit_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
