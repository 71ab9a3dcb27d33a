"""Rewards for programs. What a model wrote runs in a sandbox and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewardkit import hookimpl
from rewardkit_code.code_tests import CodeTests
from rewardkit_code.copying import Similarity
from rewardkit_code.lint import Lint
from rewardkit_code.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from rewardkit import Finding

__all__ = ["CodeTests", "Lint", "Runs", "Similarity", "diagnose", "register_commands"]


@hookimpl
def register_commands() -> Iterable[click.Command]:
    """Add the command `rewardkit sandbox` with its subcommands build, check, run and serve."""
    import click
    from rewardkit_sandbox import cli

    return [click.Group("sandbox", commands=cli.main.commands, help=cli.main.help)]


@hookimpl
def diagnose() -> Iterable[Finding]:
    """Return the results of the sandbox's checks on this machine."""
    from rewardkit_code import diagnosis

    return diagnosis.findings()
