"""``rewardkit check`` for a training configuration: shows the tokens in the loss, the cost of a step, and what looks wrong."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rewardkit.cli.support.memory_table import add_memory, memory_json, print_memory
from rewardkit.cli.support.streams import json_text
from rewardkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from rewardkit.train.config.training_file import TrainFile
    from rewardkit.train.preflight.data_checks import Findings

STYLES = {"context": "dim", "loss": "green", "weighted": "bold magenta", "chosen": "green", "rejected": "red"}
"""The style of each part of a sample."""
MARKS = {"loss": "⟦{}⟧", "weighted": "⟦{}⟧", "chosen": "⟦+{}⟧", "rejected": "⟦-{}⟧"}
"""The brackets around each part of a sample, so that it can be recognized without colours."""
MOST_CHARACTERS = 2000
"""The most characters of a part of a sample that are shown."""


def check_training(
    config: str, overrides: Mapping[str, str], limit: int | None, *, processes: int = 1, as_json: bool
) -> None:
    """Check a training configuration and its data, and print the findings.

    Args:
        config: The configuration file.
        overrides: Values by dotted key that replace those of the file.
        limit: Check only so many rows.
        processes: Number of training processes whose memory is estimated.
        as_json: Print the findings as JSON.

    Raises:
        ConfigError: The configuration is not valid.
        DataError: Training would refuse the data.
    """
    from rewardkit.cli.support.loading import exit_on_interrupt
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import import_heavy
    from rewardkit.train.data.input_check import check_inputs

    file = read_train_config(Path(config), overrides=overrides)
    check_inputs(file, "train", "eval")
    with exit_on_interrupt():
        import_heavy()
    from rewardkit.train.preflight.preview import preview
    from rewardkit.train.trainer.launch import quiet

    quiet()
    found = preview(file, limit)
    estimate = add_memory(file, found, processes)
    if as_json:
        findings = {name: value for name, value in asdict(found).items() if name != "lengths"}
        report = {"stage": file.document.data["stage"], "output": str(file.config.output), **findings}
        report["memory"] = memory_json(*estimate) if estimate is not None else None
        click.echo(json_text(report))
    else:
        from rich.console import Console

        console = Console()
        show(file, found, console, lambda: print_memory(console, *estimate, processes) if estimate else None)
    if found.problems:
        count = len(found.problems)
        raise DataError(f"{count} problem{'s' * (count != 1)} found: training would refuse this")


def show(file: TrainFile, found: Findings, console: Console, print_estimate: Callable[[], None] = lambda: None) -> None:
    """Print the findings.

    Args:
        file: The configuration.
        found: The findings.
        console: Where to print.
        print_estimate: Prints the estimate of memory, between the sample and the warnings.
    """
    from rich.table import Table
    from rich.text import Text

    from rewardkit.cli.support.composite_table import print_composite

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {"stage": file.document.data["stage"], "output": str(file.config.output), **found.facts}.items():
        table.add_row(name, Text(str(value)))
    console.print(table)
    if file.reward is not None:
        console.print()
        for composite in file.reward.composites.values():
            print_composite(console, composite)
    if found.title:
        console.print(f"\n[dim]{found.title}:[/dim]")
    sample = Text()
    for text, kind in found.sample:
        hidden = len(text) - MOST_CHARACTERS
        shown = f"{text[: MOST_CHARACTERS // 2]} […{hidden:,} characters…] {text[-MOST_CHARACTERS // 2 :]}"
        sample.append(MARKS.get(kind, "{}").replace("{}", shown if hidden > 0 else text), STYLES[kind])
    console.print(sample, soft_wrap=True)
    console.print()
    print_estimate()
    for words, mark, style in ((found.problems, "✗", "red"), (found.warnings, "!", "yellow")):
        for text in words:
            line = Table.grid(padding=(0, 1))
            line.add_row(Text(mark, style), Text(text, style))
            console.print(line)
    if not found.problems and not found.warnings:
        console.print(
            f"[green]ok[/green]  {file.document.file} is valid, and the data have no problems", highlight=False
        )
