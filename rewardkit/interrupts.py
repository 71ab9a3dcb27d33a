"""Signal handlers that are installed for the length of a block, for Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def answering(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Install a signal handler inside the block, and restore the former handlers afterwards.

    Outside the main thread this does nothing, because Python allows only the main thread to install signal handlers.

    Args:
        handler: The handler, as for ``signal.signal``.
        signals: The signals that it handles.
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
