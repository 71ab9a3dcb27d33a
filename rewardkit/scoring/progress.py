"""Shows the progress of a run: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 10.0


class NoProgress:
    """Shows nothing."""

    def update(self, position: int, rows: int, mean: float | None, unscored: int) -> None:
        """Update the display: bytes of the input read, rows done, their mean reward (NaN where there are no rewards), unscored rows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class ProgressLines(NoProgress):
    """A line every ten seconds, for logs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = self._last = time.monotonic()
        self._first: tuple[int, int] | None = None

    def update(self, position: int, rows: int, mean: float | None, unscored: int) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        self._first = self._first or (position, rows)
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        speed = (rows - self._first[1]) / (now - self._start)
        share = position / self._total if self._total else 0.0
        line = f"{rows:,} rows ({share:.0%}), {speed:,.0f} rows/s"
        if position > self._first[0]:
            left = (self._total - position) * (now - self._start) / (position - self._first[0])
            line += f", {_duration(left)} left"
        line += f", {_told(mean, unscored)}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - its purpose


class ProgressBar(NoProgress):
    """A bar on a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress: Progress = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._total = total
        self._task: TaskID | None = None
        self._start = time.monotonic()
        self._first_rows: int | None = None

    def update(self, position: int, rows: int, mean: float | None, unscored: int) -> None:
        """Move the bar."""
        if self._task is None or self._first_rows is None:
            # Rows of an earlier run count for the position of the bar but not for the speed.
            self._task = self._progress.add_task("", total=self._total or None, completed=position, told="")
            self._first_rows = rows
        speed = (rows - self._first_rows) / max(1e-6, time.monotonic() - self._start)
        told = f"{rows:,} rows, {speed:,.0f}/s, {_told(mean, unscored)}"
        self._progress.update(self._task, completed=position, told=told)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def make_progress(total: int) -> NoProgress:
    """Return the display that fits standard error. ``total``: bytes of the input."""
    return ProgressBar(total) if sys.stderr.isatty() else ProgressLines(total)


def _told(mean: float | None, unscored: int) -> str:
    if mean is not None and math.isnan(mean):
        return f"{unscored:,} failed"
    reward = "no reward yet" if mean is None else f"mean reward {mean:.3f}"
    return f"{reward}, {unscored:,} unscored" if unscored else reward


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
