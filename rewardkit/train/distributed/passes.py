"""The pass that each process is in, for errors that name it: the rollouts of step 3, the reference log-probs, the update.

All processes run the same passes in the same order, so the number of a pass tells which process is behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pass:
    """A part of the work of a run."""

    number: int = 0
    name: str = ""

    @property
    def where(self) -> str:
        """The pass as a part of a sentence, or an empty text."""
        return f" in {self.name}" if self.name else ""


_current = Pass()


def current() -> Pass:
    """Return the pass that this process is in."""
    return _current


@contextmanager
def running_pass(name: str) -> Iterator[None]:
    """Name the part of the work that is done inside, for errors of other processes that wait for this one.

    If the block raises an exception, its name stays until the next pass begins, so that the error can name it.

    Args:
        name: What is done, such as "the update of step 3".
    """
    global _current  # noqa: PLW0603 - one per process
    outer = _current
    _current = Pass(outer.number + 1, name)
    yield
    _current = Pass(_current.number + 1, outer.name)
