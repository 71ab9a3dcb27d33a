"""Ctrl-C and SIGTERM, where something else than the interpreter's own answer is wanted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def answering(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Inside, ``handler`` answers these signals; afterwards, who answered them before.

    Outside the main thread nothing changes: Python lets no other thread do this, and whoever started it stops it by other means.
    """
    before = {}
    try:
        for number in signals:
            before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
