"""Ctrl-C while large libraries are imported."""

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
    """``KEY=VALUE`` as given on the command line."""
    result = {}
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"--set wants KEY=VALUE, found {text!r}")
        result[key] = value
    return result


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C ends the process.

    A library that is interrupted while it is imported may swallow that, or be left half made and break later. Nothing has been
    begun at that time that would have to be ended in order.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        click.echo("interrupted", err=True)
        os._exit(INTERRUPTED)

    with answering(leave, signal.SIGINT):
        yield
