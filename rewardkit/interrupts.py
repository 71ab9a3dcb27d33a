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


class _Memory:
    """True if Ctrl-C was pressed since ``remembering_interrupts`` began."""

    interrupted = False


def was_interrupted() -> bool:
    """Return whether Ctrl-C has come inside ``remembering_interrupts``.

    A library may swallow the KeyboardInterrupt, such as one that is being imported or a destructor. Long work asks this before it
    begins, so that the interrupt is not lost.
    """
    return _Memory.interrupted


@contextmanager
def remembering_interrupts() -> Iterator[None]:
    """Remember Ctrl-C inside, besides raising KeyboardInterrupt. Where Ctrl-C is ignored, or handled by others, nothing changes."""
    _Memory.interrupted = False
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def remember(number: int, frame: FrameType | None) -> None:
        _Memory.interrupted = True
        signal.default_int_handler(number, frame)

    try:
        with answering(remember, signal.SIGINT):
            yield
    finally:
        _Memory.interrupted = False
