"""A bound on the work that one comparison may do in the caller's process, counted in steps.

A step is a node of an expression that is built, compared, visited, brought to normal form or evaluated, a token, or a term of a product:
one to ten microseconds. The count belongs to the thread, so nothing has to be passed through the tiers. It does not depend on the
clock: the same pair is given up at the same place on every machine, under any load.
"""

from __future__ import annotations

import sys
import threading

from rewardkit_math.errors import TooLarge

READING = 8_000
"""Steps that the reading of one side may take."""


class _Count(threading.local):
    left: int = sys.maxsize


_count = _Count()


def spend(steps: int = 1) -> None:
    """Count `steps`.

    Raises:
        TooLarge: They are more than the blocks around have left.
    """
    _count.left -= steps
    if _count.left < 0:
        raise TooLarge("more work than one comparison may take")


class allowed:  # noqa: N801 - used as `with allowed(steps):`
    """Allow a number of steps inside the block, regardless of the steps that an enclosing block has left.

    Args:
        steps: How many.
    """

    __slots__ = ("_outer", "_steps")

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._outer = _count.left
        _count.left = self._steps

    def __exit__(self, *_: object) -> None:
        _count.left = self._outer


class limited:  # noqa: N801 - used as `with limited(steps):`
    """Allow a number of steps inside the block, but no more than the enclosing block has left; they count towards that block, too.

    Args:
        steps: How many.
    """

    __slots__ = ("_inner", "_outer", "_steps")

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._outer = _count.left
        self._inner = min(self._steps, self._outer)
        _count.left = self._inner

    def __exit__(self, *_: object) -> None:
        _count.left = self._outer - (self._inner - _count.left)
