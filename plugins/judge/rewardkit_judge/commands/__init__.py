"""``rewardkit judge``: commands that try, measure and use judges. Each is imported when it is called."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "try": "Show what a judge is asked about a row, and what it says.",
    "calibrate": "Measure a judge against labels: agreement, biases, consistency, cost.",
    "revise": "Answer, criticise and revise by principles: rows for SFT.",
    "prefer": "Compare completions by principles: pairs for reward_model and dpo.",
}
_MODULES = {"try": "trying"}


class _Group(click.Group):
    """Imports a command by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("judge", cls=_Group)
def group() -> None:
    """Try, measure and use language models as judges."""
