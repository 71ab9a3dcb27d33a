"""``rewardkit check`` for a training configuration: shows the tokens in the loss and the cost of a step, and checks the data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from rewardkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from rewardkit.train.config.training_file import TrainFile
    from rewardkit.train.preflight.data_checks import Findings

STYLES = {"context": "dim", "loss": "green", "weighted": "bold magenta", "chosen": "green", "rejected": "red"}
"""The style of each part of a sample."""
MARKS = {"loss": "⟦{}⟧", "weighted": "⟦{}⟧", "chosen": "⟦+{}⟧", "rejected": "⟦-{}⟧"}
"""The brackets around each part of a sample, so that it can be recognized without colours."""
MOST_CHARACTERS = 2000
"""The most characters of a part of a sample that are shown."""


def check_training(config: str, overrides: Mapping[str, str], limit: int | None, *, as_json: bool) -> None:
    """Check a training configuration and its data, and print the findings.

    Args:
        config: The configuration file.
        overrides: Values by dotted key that replace those of the file.
        limit: Check only so many rows.
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
    if as_json:
        report = {"stage": file.document.data["stage"], "output": str(file.config.output), **asdict(found)}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        from rich.console import Console

        show(file, found, Console())
    if found.problems:
        count = len(found.problems)
        raise DataError(f"{count} problem{'s' * (count != 1)} found: training would refuse this")


def show(file: TrainFile, found: Findings, console: Console) -> None:
    """Print the findings.

    Args:
        file: The configuration.
        found: The findings.
        console: Where to print.
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
    for words, mark, style in ((found.problems, "✗", "red"), (found.warnings, "!", "yellow")):
        for text in words:
            line = Table.grid(padding=(0, 1))
            line.add_row(Text(mark, style), Text(text, style))
            console.print(line)
    if not found.problems and not found.warnings:
        console.print(
            f"[green]ok[/green]  {file.document.file} is valid, and the data have no problems", highlight=False
        )
