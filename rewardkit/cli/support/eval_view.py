"""Prints the progress and the results of an evaluation, and the comparison of two models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rewardkit.train.evaluation.answers import ModelAnswers
from rewardkit.train.evaluation.evaluator import Progress as ExamProgress
from rewardkit.train.evaluation.pass_at_k import Change
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.reports.evaluation_report import differences, sentences, short

SHOWN_CLASSES = 20
"""The most classes of problems in the terminal. The HTML page lists all."""


class Bar:
    """A context manager that shows progress: a bar for each model on a terminal, otherwise a line for each model."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def say(self, words: str) -> None:
        """Print a line above the bars."""
        self.console.print(words, highlight=False, markup=False, soft_wrap=True)

    def tell(self, progress: ExamProgress) -> None:
        """Update the bar of a model, and add it if it is new."""
        if progress.model not in self.tasks:
            self.tasks[progress.model] = self.progress.add_task(short(progress.model), total=progress.total)
            if not self.console.is_terminal:
                kept = f", {progress.done:,} of them kept from before" if progress.done else ""
                self.say(f"{progress.model}: {progress.total:,} answers{kept}")
        self.progress.update(self.tasks[progress.model], completed=progress.done)


def show(
    all_answers: Sequence[ModelAnswers], labelled: Sequence[Mapping[str, float | Estimate]], changes: Sequence[Change]
) -> None:
    """Print the metrics of each model, and the difference between two models.

    Args:
        all_answers: The answers of each model.
        labelled: The metrics of each model by label.
        changes: The difference over all problems, followed by the difference for each class; empty for a single model.
    """
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for model_answers in all_answers:
        table.add_column(short(model_answers.model), justify="right", overflow="fold")
    if changes:
        table.add_column("difference", justify="right")
    gains = differences(all_answers, changes)
    for label in labelled[0]:
        cells = [_words(of.get(label)) for of in labelled]
        table.add_row(label, *cells, *([_words(gains.get(label), sign=True)] if changes else []))
    console.print(table)
    if changes:
        _show_changes(console, changes)


def _words(value: float | Estimate | None, *, sign: bool = False) -> str:
    style = "+.3f" if sign else ".3f"
    if value is None:
        return ""
    if math.isnan(value.value if isinstance(value, Estimate) else value):
        return "–"  # No answer has this metric.
    if isinstance(value, Estimate):
        return f"{value.value:{style}} [dim]{value.low:{style}}…{value.high:{style}}[/dim]"
    return f"{value:{style}}"


def _show_changes(console: Console, changes: Sequence[Change]) -> None:
    console.print("\n[bold]What training changed[/bold]")
    points = Table.grid(padding=(0, 1))
    for sentence in sentences(changes[0]):
        points.add_row("·", escape(sentence))
    console.print(points)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=False)
    table.add_column("problems", overflow="ellipsis", max_width=18)
    for name in ("", "pass@1", "gain within reach", "gain out of reach", "new − luck"):
        table.add_column(name, justify="right")
    for change in changes[: SHOWN_CLASSES + 1]:
        table.add_row(
            escape(change.name),
            str(change.problems),
            f"{change.base[0].value:.2f} → {change.trained[0].value:.2f}",
            *(_gain(value) for value in (change.elicited, change.created, change.new_beyond_luck)),
        )
    console.print()
    console.print(table)
    hidden = len(changes) - SHOWN_CLASSES - 1
    more = f" {hidden} more classes are on the page." if hidden > 0 else ""
    console.print(
        f"[dim]Within reach: the base model solves it in {changes[0].reach} tries. Gain within reach is elicitation, gain out of "
        f"reach and new problems beyond luck are creation. Intervals: 95 %, over problems.{more}[/dim]",
        highlight=False,
    )


def _gain(value: Estimate) -> str:
    if math.isnan(value.value):  # There are no such problems.
        return "–"
    return f"{value.value:+.2f} [dim]±{(value.high - value.low) / 2:.2f}[/dim]"
