"""Every exception that rewardkit raises on purpose, and the exit code the command line gives it.

::

    RewardkitError                  1   the work failed
    ├── UsageError                  2   a verb was called wrongly
    ├── ConfigError                 2   a YAML file or a parameter is wrong; knows file, line and column
    ├── PluginError                 2   a plugin is broken, missing, misspelt, or clashes with another
    │   └── PluginClashError        2   two distributions offer the same name
    ├── DataError                   2   rows can't be read, or lack what the reward needs; knows file and row
    ├── OutputError                 1   a result can't be written (no permission, disk full)
    ├── WorkerError                 1   the worker processes of a reward can't be started
    ├── EngineError                 1   a rollout engine fails, hangs, or samples from other weights than are trained
    └── TooManyUnscoredError        3   more rollouts than allowed could not be scored

A message is one string: what happened, where, and what to do about it. A failure to score *one* rollout is not an exception
but an ``Unscored``.
"""

from __future__ import annotations

from dataclasses import dataclass


class RewardkitError(Exception):
    """Anything that rewardkit gives up on."""

    exit_code = 1


class UsageError(RewardkitError):
    """A command or function was called in a way that makes no sense."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a text file, counted from 1 as editors do."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class ConfigError(RewardkitError):
    """A configuration that can't be used. Holds every problem found, each with its place."""

    exit_code = 2

    def __init__(self, *problems: tuple[Location | None, str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{location}: {text}" if location else text for location, text in problems))


class PluginError(RewardkitError):
    """A plugin is broken, or a reward that no plugin offers was asked for."""

    exit_code = 2


class PluginClashError(PluginError):
    """Two distributions offer a reward or a command of the same name."""


class DataError(RewardkitError):
    """Input that can't be read as rollouts, or that lacks what the reward needs."""

    exit_code = 2


class OutputError(RewardkitError):
    """A result can't be written where it should go. What was written before stays."""


class WorkerError(RewardkitError):
    """The worker processes that a reward runs in can't be started."""


class EngineError(RewardkitError):
    """A rollout engine fails, hangs, or samples from other weights than are trained. What was trained before stays."""


class TooManyUnscoredError(RewardkitError):
    """More rollouts than the configuration allows could not be scored."""

    exit_code = 3
