"""Shows a run on the console: a live panel with metrics and sparklines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rewardkit.train.monitoring.metric_descriptions import time_label

BARS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 32
"""Largest number of values in a sparkline."""
FIRST = ("reward", "accuracy", "gold", "loss", "kl", "entropy", "length")
"""The most important metrics, in order. A plain line has only these; ``metrics.jsonl`` has all."""
SPEED_METRICS = ("tokens_per_s", "tokens", "seconds")
"""Metrics that are shown in the line about speed."""
BETWEEN_LINES = 2.0
"""Least number of seconds between plain lines about training steps."""


class RunConsole:
    """Shows metrics and messages while a run is open. A context manager."""

    def __init__(self, title: str, total_steps: int, console: Console | None = None) -> None:
        self.title = title
        self.total_steps = total_steps
        self.rich = console or Console(stderr=True)
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        """All values of each metric, by kind (train, eval) and name."""
        self.activity = ""
        """The current activity, other than a training step."""
        self.notes: list[str] = []
        self.progress = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.rich,
        )
        self.task = self.progress.add_task("steps", total=total_steps)
        self.last_line = 0.0
        self.live = (
            Live(get_renderable=self.render, console=self.rich, refresh_per_second=2, transient=False)
            if self.rich.is_terminal
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
        """Show the metrics of a step."""
        self.recall(metrics, kind)
        self.activity = ""
        self.progress.update(self.task, completed=step)
        if self.live is None:
            self._print_line(step, metrics, kind)

    def recall(self, metrics: Mapping[str, float], kind: str) -> None:
        """Add metrics of an earlier part of the run to the sparklines."""
        for name, value in metrics.items():
            self.values[kind, name].append(value)

    def message(self, text: str) -> None:
        """Show a message, such as a warning or an alarm."""
        self.notes = [*self.notes, text][-5:]
        if self.live is None:
            self.rich.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def resumed(self, step: int) -> None:
        """Show that the run resumes after ``step`` steps."""
        self.progress.reset(self.task, completed=step)  # earlier steps say nothing about the remaining time
        done = step == self.total_steps
        self.message(f"all {step} steps are already done" if done else f"resuming after step {step}")

    def render(self) -> RenderableType:
        """Return the panel: progress, the metrics that fit, speed and messages."""
        table = Table.grid(padding=(0, 2))
        table.add_column("metric", no_wrap=True, overflow="ellipsis")
        table.add_column("value", no_wrap=True, justify="right", min_width=10)
        table.add_column("curve", no_wrap=True, style="cyan")
        room = max(self.rich.height - 6 - 2 * len(self.notes), 4)
        for kind, name in ranked(list(self.values))[:room]:
            values = self.values[kind, name]
            label = name if kind == "train" else f"{kind}: {name}"
            table.add_row(escape(label), shown(values[-1]), sparkline(values))
        latest = {name: values[-1] for (kind, name), values in self.values.items() if kind == "train"}
        notes = [f"[yellow]{escape(note)}[/yellow]" for note in self.notes]
        return Panel(
            Group(
                self.progress, table, f"[dim]{'  '.join(filter(None, [speed(latest), self.activity]))}[/dim]", *notes
            ),
            title=escape(self.title),
            title_align="left",
        )

    def _print_line(self, step: int, metrics: Mapping[str, float], kind: str) -> None:
        now = time.monotonic()
        if kind == "train" and now - self.last_line < BETWEEN_LINES and step < self.total_steps:
            return
        names = [name for name in FIRST if name in metrics] if kind == "train" else list(metrics)
        parts = [f"{kind} step {step}/{self.total_steps}", *(f"{name} {shown(metrics[name])}" for name in names)]
        if kind == "train":
            self.last_line = now
            left = self.progress.tasks[0].time_remaining
            parts += [speed(metrics), *([f"{duration(left)} left"] if left else [])]
        self.rich.print("  ".join(filter(None, parts)), highlight=False, markup=False, soft_wrap=True)


def ranked(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Order metrics, as (kind, name), by importance: the most important ones, components, all others."""

    def rank(key: tuple[str, str]) -> int:
        kind, name = key
        if name in FIRST:
            return 2 * FIRST.index(name) + (kind == "train")
        component = name.startswith("component/") and name.count("/") == 1
        return 2 * len(FIRST) + (
            0 if component and kind == "train" else 1 if component else 2 if kind == "train" else 3
        )

    return sorted((key for key in keys if key[1] not in SPEED_METRICS and not key[1].startswith("seconds_")), key=rank)


def speed(metrics: Mapping[str, float]) -> str:
    """Return tokens per second, the share of prompts trained on, seconds per step, and what they are spent on."""
    whole = metrics.get("seconds", 0.0)
    parts = []
    if "tokens_per_s" in metrics:
        parts.append(f"{metrics['tokens_per_s']:,.0f} tokens/s")
    if "prompts_kept" in metrics:
        parts.append(f"{metrics['prompts_kept']:.0%} of {metrics['prompts_sampled']:.0f} prompts trained on")
    if whole:
        shares = [
            f"{time_label(name)} {value / whole:.0%}"
            for name, value in metrics.items()
            if name.startswith("seconds_") and value / whole >= 0.005
        ]
        parts.append(f"{whole:.2g} s/step" + (f" ({', '.join(shares)})" if shares else ""))
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Format a duration: 42 s, 3:05, 2:03:05."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shown(value: float) -> str:
    """Format a metric."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def sparkline(values: Sequence[float]) -> str:
    """Draw the values as a line of blocks. Differences by rounding are drawn flat."""
    latest = [value for value in values if math.isfinite(value)]
    if len(latest) > SPARKLINE_WIDTH:
        chunk = len(latest) / SPARKLINE_WIDTH
        latest = [latest[int((index + 1) * chunk) - 1] for index in range(SPARKLINE_WIDTH)]
    if len(latest) < 2:
        return ""
    low, high = min(latest), max(latest)
    scale = (len(BARS) - 1) / (high - low) if high - low > 1e-4 * abs(high) else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in latest)
