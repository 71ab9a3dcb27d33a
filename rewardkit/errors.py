"""The exceptions that rewardkit raises, each with the exit code of the command line.

::

    RewardkitError                  1   base class
    ├── UsageError                  2   a command or function was called with wrong arguments
    ├── ConfigError                 2   a YAML file or a parameter is not valid; has file, line and column
    ├── PluginError                 2   a plugin is broken, missing, misspelt, or clashes with another
    │   └── PluginClashError        2   two distributions offer the same name
    ├── DataError                   2   rows can't be read, or lack a column that the reward reads; has file and row
    ├── OutputError                 1   a result can't be written (no permission, disk full)
    ├── WorkerError                 1   the worker processes of a reward can't be started
    ├── EngineError                 1   a rollout engine fails, hangs, or samples from other weights than the trainer's
    └── TooManyUnscoredError        3   more rollouts than allowed could not be scored

A message says what happened, where, and what to do. A failure to score *one* rollout is not an exception but an ``Unscored``.
"""

from __future__ import annotations

from dataclasses import dataclass


class RewardkitError(Exception):
    """Base class of the exceptions that rewardkit raises. ``exit_code`` is that of the command line."""

    exit_code = 1


class UsageError(RewardkitError):
    """A command or function was called with wrong or contradictory arguments."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a text file."""

    file: str
    line: int | None = None
    """The line, counted from 1."""
    column: int | None = None
    """The column, counted from 1."""

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class ConfigError(RewardkitError):
    """A configuration is not valid.

    Args:
        problems: Every problem that was found, as pairs of a place (or None) and a message.
    """

    exit_code = 2

    def __init__(self, *problems: tuple[Location | None, str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{location}: {text}" if location else text for location, text in problems))


class PluginError(RewardkitError):
    """A plugin is broken, or no plugin offers the requested reward."""

    exit_code = 2


class PluginClashError(PluginError):
    """Two distributions offer a reward, command, monitor or rollout engine of the same name."""


class DataError(RewardkitError):
    """Rows can't be read as rollouts, or lack a column that the reward reads."""

    exit_code = 2


class OutputError(RewardkitError):
    """A result can't be written. Results that were already written are kept."""


class WorkerError(RewardkitError):
    """The worker processes of a reward can't be started."""


class EngineError(RewardkitError):
    """A rollout engine fails, hangs, or samples from other weights than the trainer's. Earlier checkpoints are kept."""


class TooManyUnscoredError(RewardkitError):
    """More rollouts could not be scored than ``unscored: abort_above`` allows."""

    exit_code = 3
