"""Parses ``--set`` options, and handles Ctrl-C while large libraries are imported."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from rewardkit.cli import INTERRUPTED
from rewardkit.errors import UsageError
from rewardkit.interrupts import answering


def split_overrides(overrides: tuple[str, ...]) -> dict[str, str]:
    """Return the values of ``--set KEY=VALUE`` options by key.

    Args:
        overrides: The options.

    Raises:
        UsageError: An option is not of that form.
    """
    result = {}
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"--set {text}: write KEY=VALUE, such as optimizer.lr=3e-5")
        result[key] = value
    return result


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process at once if Ctrl-C is pressed inside the block.

    A library that is interrupted during its import may swallow KeyboardInterrupt, or stay half imported and fail later. At that time
    no work has started that would need an orderly shutdown.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        click.echo("interrupted", err=True)
        os._exit(INTERRUPTED)

    with answering(leave, signal.SIGINT):
        yield
