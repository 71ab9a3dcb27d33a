"""A bound on the work that one comparison may do in the caller's process, counted in steps.

A step is a node of an expression that is built, compared, visited, brought to normal form or evaluated, a token, or a term of a product:
one to ten microseconds. The count belongs to the thread, so nothing has to be passed through the tiers. It does not depend on the
clock: the same pair is given up at the same place on every machine, under any load.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rewardkit_math.errors import TooLarge

READING = 8_000
"""Steps for reading one side."""


class _Count(threading.local):
    left: int = sys.maxsize


class Allowance:
    """What became of the steps that a block was allowed."""

    __slots__ = ("spent", "steps")

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.spent = 0

    @property
    def exhausted(self) -> bool:
        """Whether the block asked for more steps than it was allowed."""
        return self.spent > self.steps


_count = _Count()


def spend(steps: int = 1) -> None:
    """Count `steps`.

    Raises:
        TooLarge: They are more than the blocks around have left.
    """
    _count.left -= steps
    if _count.left < 0:
        raise TooLarge("more work than one comparison may take")


@contextmanager
def allowed(steps: int) -> Iterator[Allowance]:
    """Allow `steps` inside the block, whatever a block around it has left."""
    outer = _count.left
    _count.left = steps
    allowance = Allowance(steps)
    try:
        yield allowance
    finally:
        allowance.spent = steps - _count.left
        _count.left = outer


@contextmanager
def limited(steps: int) -> Iterator[None]:
    """Allow `steps` inside the block, but no more than the block around has left, from which they are taken."""
    outer = _count.left
    inner = min(steps, outer)
    _count.left = inner
    try:
        yield
    finally:
        _count.left = outer - (inner - _count.left)
