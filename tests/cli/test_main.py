"""The command line: help, misspelt commands, commands of plugins, exit codes."""

import contextlib
import os
import signal
import subprocess
import sys

import click
import pytest

import rewardkit
from rewardkit import Registry, errors
from rewardkit.cli import COMMANDS, run

COMMAND = [sys.executable, "-m", "rewardkit"]

VERB_PLUGIN = """
    import click, rewardkit

    @click.command("shout")
    @click.argument("word")
    def shout(word):
        \"\"\"Shout a word.\"\"\"
        click.echo(word.upper())

    @rewardkit.hookimpl
    def register_commands():
        return [shout]
"""


def test_help_names_every_command(capsys: pytest.CaptureFixture) -> None:
    """The help lists all commands with a line each, and the exit codes."""
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb}  " in out and line in " ".join(out.split()) for verb, line in COMMANDS.items())
    assert "3 too many rows could not be read or scored" in " ".join(out.split())


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_has_help(verb: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command can be imported, and its help fits 80 columns and starts with the line of the list."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: rewardkit {verb} ")
    assert len(out.splitlines()) > 3
    assert max(map(len, out.splitlines())) <= 80
    assert "\\b" not in out


def test_the_version(capsys: pytest.CaptureFixture) -> None:
    """--version prints the package's version."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"rewardkit {rewardkit.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shema"], "there is no command 'shema'; did you mean 'schema'?"),
        (["xyzzy"], f"there is no command 'xyzzy'; commands are {', '.join(COMMANDS)}"),
        (["schema", "--nope"], "No such option"),
        (["--nope"], "No such option"),
        (["plugins", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_use_is_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    """An unknown command or option exits with 2 and suggests what was meant on stderr."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_a_plugins_command_is_run(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A command that a plugin adds works like the core's, with its help."""
    install_plugin(VERB_PLUGIN)
    assert run(["shout", "hello"]) == 0
    assert capsys.readouterr().out == "HELLO\n"
    assert run(["shout", "--help"]) == 0
    assert "Shout a word." in capsys.readouterr().out


def test_clashing_commands_exit_with_2(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A command of two distributions is refused with both names."""
    install_plugin(VERB_PLUGIN, "one")
    install_plugin(VERB_PLUGIN, "two")
    assert run(["shout", "hello"]) == 2
    assert (
        "error: command 'shout' is offered by more than one plugin: one 1.0 (plugin 'one') and two 1.0"
        in capsys.readouterr().err
    )


def raising(error: BaseException) -> click.Command:
    """A command that fails in this way."""

    @click.command("raising")
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.RewardkitError("it failed"), 1, "error: it failed\n"),
        (errors.ConfigError((errors.Location("f", 1, 2), "is odd")), 2, "error: f:1:2: is odd\n"),
        (errors.DataError("no rows"), 2, "error: no rows\n"),
        (errors.OutputError("disk full"), 1, "error: disk full\n"),
        (errors.TooManyUnscoredError("11 %"), 3, "error: 11 %\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: the connection to another process broke\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
    ],
)
def test_errors_have_exit_codes(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """An error prints one message on stderr, without a traceback, and exits with the code of its class."""
    monkeypatch.setattr(Registry, "command", lambda registry, name: raising(error))
    assert run(["raising"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.lstrip("\n").startswith(said)
    assert "Traceback" not in err


def interrupted_in_a_library(raises: BaseException | None) -> click.Command:
    """A command that is interrupted inside a library, which swallows the KeyboardInterrupt and perhaps raises another error."""

    @click.command("interrupted")
    def command() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if raises is not None:
            raise raises

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImportError("numpy.core.multiarray failed to import"), 130),
        (SystemError("returned a result with an exception set"), 130),
        (errors.PluginError("a plugin can't be imported"), 130),
        (BrokenPipeError(32, "Broken pipe"), 130),
        (None, 0),
    ],
)
def test_an_interrupt_that_becomes_another_error(
    error: BaseException | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A command that fails after Ctrl-C exits with 130, whatever error it ended in; one that finishes all the same exits with 0."""
    monkeypatch.setattr(Registry, "command", lambda registry, name: interrupted_in_a_library(error))
    assert run(["interrupted"]) == code
    assert capsys.readouterr().err.endswith("interrupted\n" if code else "")


def test_a_reader_that_leaves_is_no_failure() -> None:
    """Output into a pipe whose reader has gone, as in ``| head``, ends quietly with 0."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "schema"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_told() -> None:
    """Output that can't be written is a message and exit code 1."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device")
    assert "Traceback" not in done.stderr


def test_it_is_installed_as_a_command() -> None:
    """``python -m rewardkit`` and the installed script are the same command."""
    script = os.path.join(os.path.dirname(sys.executable), "rewardkit")  # noqa: PTH118, PTH120
    outputs = {
        subprocess.run([*command, "--version"], capture_output=True, check=True).stdout
        for command in (COMMAND, [script])
    }
    assert outputs == {f"rewardkit {rewardkit.__version__}\n".encode()}


def test_a_known_command_of_a_plugin_names_its_distribution(monkeypatch, capsys):
    """Without the plugin, `rewardkit judge` says what to install."""
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "judge")

    assert run(["judge", "try"]) == 2
    assert "pip install rewardkit-judge" in capsys.readouterr().err
