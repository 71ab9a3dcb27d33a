"""Ctrl-C while large libraries are imported."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from rewardkit.cli import INTERRUPTED
from rewardkit.interrupts import answering


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Inside, Ctrl-C ends the process.

    A library that is interrupted while it is imported may swallow that, or be left half made and break later. Nothing has been
    begun at that time that would have to be ended in order.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        click.echo("interrupted", err=True)
        os._exit(INTERRUPTED)

    with answering(leave, signal.SIGINT):
        yield
