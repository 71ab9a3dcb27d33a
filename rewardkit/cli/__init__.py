"""The ``rewardkit`` command line: one module per command, imported when the command is called.

A command's module defines a click command named ``command``. A ``RewardkitError`` prints its message and exits with the exit code
of its class; Ctrl-C exits with 130.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import sys
from typing import TYPE_CHECKING, Any

import click

from rewardkit.cli.support.streams import protect_streams
from rewardkit.errors import RewardkitError
from rewardkit.interrupts import remembering_interrupts, was_interrupted
from rwk import installation

if TYPE_CHECKING:
    from rewardkit.registry import Registry

COMMANDS = {
    "score": "Score rollouts with a composite reward.",
    "serve": "Serve a composite reward over HTTP.",
    "view": "Look at rollouts in the browser: filter, compare, follow a run.",
    "check": "Check a reward file or a training configuration and its data.",
    "schema": "Print the JSON Schema of reward files or training configurations, for editors.",
    "diff": "Show what changes when one reward replaces another.",
    "audit": "Attack a reward with known cheats, before a policy does.",
    "noise": "Estimate how often a reward is wrong, from labels.",
    "train": "Train a model: SFT, reward model, DPO, GRPO, PPO.",
    "report": "Write an HTML report of a scored file or of training runs.",
    "eval": "Evaluate a model on held-out prompts, or compare two models.",
    "plugins": "List the installed rewards, or describe one.",
    "new-plugin": "Create the package of a new reward plugin.",
    "doctor": "Check this installation and machine, and say how to fix problems.",
}
"""The help line of each command, so that listing the commands imports none of them."""
OF_PLUGINS = {"judge": "rewardkit-judge"}
"""Commands of plugins that the documentation names, each with the distribution that has it."""
INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM."""


class _ReaderLeftError(Exception):
    """The reader of standard output has closed it, as `head` does."""


class _CommandGroup(click.Group):
    """Imports the core's commands by name, and asks the plugins for any other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the core's commands. Those of plugins are left out, since listing them imports every plugin."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name."""
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"rewardkit.cli.{cmd_name.replace('-', '_')}")
            command: click.Command = module.command
            return command
        return load_registry().command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        formatter.write_paragraph()
        formatter.write_text("Plugins may add commands: `rewardkit plugins` lists them.")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A closed standard output is no failure, though click and rich would exit with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if _reader_left():
                raise _ReaderLeftError from None
            raise RewardkitError("the connection to another process broke") from error
        except SystemExit as error:
            if isinstance(
                error.__context__, BrokenPipeError
            ):  # rich raises this, and only where its own output is closed
                raise _ReaderLeftError from None
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, with a suggestion for a misspelt name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; commands are {', '.join(COMMANDS)}"
            if args[0] in OF_PLUGINS:
                hint = f"; it comes with a plugin: pip install {OF_PLUGINS[args[0]]}"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def _reader_left() -> bool:
    """Return whether nobody reads standard output or standard error any more. A BrokenPipeError may come from any other pipe."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor, or a closed one
            poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def load_registry() -> Registry:
    """Load the plugins of this environment."""
    from rewardkit.registry import Registry

    return Registry.load()


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from rewardkit import __version__

        click.echo(f"rewardkit {__version__}")
        ctx.exit()


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Rewards that can be verified, composed, trusted and trained on.

    Exit codes:
    0 success · 1 failure · 2 wrong usage, configuration or data · 3 too many rows could not be read or scored · 130 interrupted.
    """


def main(arguments: list[str] | None = None, prog_name: str = "rewardkit") -> None:
    """Warn if another distribution owns files of rewardkit, run the command line and exit.

    Args:
        arguments: The arguments; by default those of this process.
        prog_name: The name of the command in usage messages.
    """
    protect_streams()
    problem = installation.find_problem() if os.environ.get("RANK", "0") == "0" else None
    if problem:
        click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
        click.echo(str(problem), err=True)
    sys.exit(run(arguments, prog_name))


def run(arguments: list[str] | None = None, prog_name: str = "rewardkit") -> int:
    """Run the command line and return the exit code.

    A command that fails after Ctrl-C exits with 130, whatever the interrupt has turned into: a library that is interrupted may raise
    other errors.
    """
    with remembering_interrupts():
        try:
            code = _run(arguments, prog_name)
        # The boundary: an interrupted import may raise anything.
        except Exception:
            if not was_interrupted():
                raise
            code = 1
        if code not in {0, INTERRUPTED} and was_interrupted():
            click.echo("interrupted", err=True)
            return INTERRUPTED
    return code


def _run(arguments: list[str] | None, prog_name: str) -> int:
    """Run the command line, print its errors and return the exit code."""
    try:
        result: Any = cli.main(args=arguments, prog_name=prog_name, standalone_mode=False)
    except RewardkitError as error:
        if error.exit_code != INTERRUPTED:
            click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except _ReaderLeftError:
        # Nothing more can be written to that pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(f"{where}{error.strerror or error}", err=True)
        return 1
    return result if isinstance(result, int) else 0
