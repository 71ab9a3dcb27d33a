"""``rewardkit view``, as a person calls it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from rewardkit import cli

pytest.importorskip("duckdb", reason="needs rewardkit[view]")


@pytest.fixture
def scored(tmp_path):
    """A scored file."""
    (tmp_path / "s.jsonl").write_text('{"prompt": "p", "completion": "c", "reward": 1.0}\n')
    return tmp_path / "s.jsonl"


def started(*arguments):
    """A viewer, and the address that it prints."""
    command = [sys.executable, "-m", "rewardkit", "view", *map(str, arguments), "--no-browser"]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "1 file or run with 1 rows\n"
    return viewer, viewer.stdout.readline().split()[0]


def test_the_printed_address_shows_the_page_until_ctrl_c(scored):
    """The address has a token; Ctrl-C ends the viewer without a trace of an error."""
    viewer, address = started(scored, "--port", 0)
    with viewer:
        with urllib.request.urlopen(address) as page:  # noqa: S310 - the address of the viewer
            assert b"rewardkit view" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(address[: address.index("/", 8) + 1])  # noqa: S310
        refused.value.close()
        viewer.send_signal(signal.SIGINT)
        output, errors = viewer.communicate()
    assert (viewer.returncode, output, errors) == (0, "", f"reading {scored}\n")


def test_a_token_of_ones_own_keeps_links(scored):
    """Links keep working after a restart with the same token and port."""
    viewer, address = started(scored, "--port", 0, "--token", "my-own-token")
    with viewer:
        viewer.terminate()
    assert address.endswith("/my-own-token/")


def test_a_port_in_use_is_told(scored, capsys):
    """A port that was asked for is not replaced by another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.run(["view", str(scored), "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["short", "with a space", "with/slash", "ünicode-token"])
def test_a_token_that_is_no_part_of_an_address_is_refused(scored, capsys, token):
    """The token is long enough and needs no escapes."""
    assert cli.run(["view", str(scored), "--token", token]) == 2
    assert "the token must be 8 or more letters" in capsys.readouterr().err


def test_what_cannot_be_shown_is_refused(tmp_path, capsys):
    """Before the server starts, with exit code 2."""
    (tmp_path / "d.jsonl").write_text('{"question": "?"}\n')
    assert cli.run(["view", str(tmp_path / "d.jsonl")]) == 2
    assert "has the keys question" in capsys.readouterr().err


def test_the_library_that_lacks_is_named(scored, capsys, monkeypatch):
    """Without the extra the message says what to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    for name in [name for name in sys.modules if name.startswith("rewardkit.view")]:
        monkeypatch.delitem(sys.modules, name)
    assert cli.run(["view", str(scored)]) == 2
    assert "pip install 'rewardkit[view]'" in capsys.readouterr().err
