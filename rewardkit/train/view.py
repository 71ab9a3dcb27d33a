"""What a person sees of a run: on a terminal a live panel with the latest figures and their course, elsewhere plain lines."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
COURSE = 32
"""How many of the latest values a course shows."""
LINE = ("loss", "reward", "accuracy", "kl", "entropy", "length", "tokens_per_s", "seconds")
"""The figures of a plain line; others are in metrics.jsonl."""


class View:
    """Shows figures as they come. A context manager."""

    def __init__(self, title: str, total_steps: int, console: Console | None = None) -> None:
        self.title = title
        self.console = console or Console(stderr=True)
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.notes: list[str] = []
        self.progress = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.progress.add_task("steps", total=total_steps)
        self.last_line = 0.0
        self.live = (
            Live(get_renderable=self.render, console=self.console, refresh_per_second=2, transient=False)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        """Take in the figures of a step."""
        for name, value in metrics.items():
            self.values[kind, name].append(value)
        self.progress.update(self.task, completed=step)
        now = time.monotonic()
        if self.live is None and (kind != "train" or now - self.last_line > 2):
            self.last_line = now if kind == "train" else self.last_line
            known = [name for name in LINE if name in metrics] if kind == "train" else list(metrics)
            figures = "  ".join(f"{name} {shown(metrics[name])}" for name in known)
            self.console.print(f"{kind} step {step}  {figures}", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell something that is no figure: a warning, an alarm."""
        self.notes = [*self.notes, text][-5:]
        if self.live is None:
            self.console.print(text, style="yellow", highlight=False, soft_wrap=True)

    def resumed(self, step: int) -> None:
        """Begin at a step that is not the first."""
        self.progress.update(self.task, completed=step)
        self.say(f"going on after step {step}")

    def render(self) -> RenderableType:
        """The panel."""
        table = Table.grid(padding=(0, 2))
        for name in ("figure", "value", "course"):
            table.add_column(name, no_wrap=True)
        room = max(self.console.height - 8 - len(self.notes), 4)
        for (kind, name), values in list(self.values.items())[:room]:
            label = name if kind == "train" else f"{kind}: {name}"
            table.add_row(label, shown(values[-1]), f"[cyan]{sparkline(values)}[/cyan]")
        notes = [f"[yellow]{escape(note)}[/yellow]" for note in self.notes]
        return Panel(Group(self.progress, table, *notes), title=escape(self.title), title_align="left")


def shown(value: float) -> str:
    """A figure as a person reads it."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def sparkline(values: list[float]) -> str:
    """The course of the latest values."""
    latest = [value for value in values if math.isfinite(value)]
    if len(latest) > COURSE:
        chunk = len(latest) / COURSE
        latest = [latest[int((index + 1) * chunk) - 1] for index in range(COURSE)]
    if len(latest) < 2:
        return ""
    low, high = min(latest), max(latest)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in latest)
