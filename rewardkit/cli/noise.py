"""``rewardkit noise``: estimates the error rates of a reward from labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rewardkit.cli.support.labels import check_labels
from rewardkit.cli.support.scoring_process import scored_rows
from rewardkit.cli.support.streams import json_text
from rewardkit.toolkit.numbers import FiniteRange

if TYPE_CHECKING:
    from rewardkit.insight.noise import ErrorRates, Rate


@click.command("noise")
@click.argument("reward", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--labels", "files", multiple=True, required=True, help="Rollouts with labels; may be given several times."
)
@click.option(
    "--label-column", default="label", show_default=True, help="The column of the labels: true or false, 1 or 0."
)
@click.option("--component", help="The component to evaluate, instead of the whole reward.")
@click.option(
    "--threshold",
    type=FiniteRange(),
    default=0.5,
    show_default=True,
    help="The reward accepts a row where its value exceeds this.",
)
@click.option("--by", help="A column that divides the rows into classes, such as data_source.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the rates, and the numbers of the rows on which reward and label differ, as JSON.",
)
def command(
    reward: Path,
    files: tuple[str, ...],
    label_column: str,
    component: str | None,
    threshold: float,
    by: str | None,
    as_json: bool,
) -> None:
    """Estimate how often REWARD is wrong.

    A false positive is a row that the reward accepts although its label is wrong; a false negative is one that it rejects
    although its label is right. Each rate has a 95 % interval (Wilson). Rows that can't be scored are counted apart. A few
    hundred labels suffice to find a rate of some per cent.
    """
    from rewardkit.insight.noise import error_rates, labelled_rows

    check_labels(files, label_column, by)
    rows = labelled_rows(scored_rows(reward, files), label=label_column, component=component, by=by)
    classes = sorted({row.group for row in rows}) if by is not None else []
    rates = {"all rows": error_rates(rows, threshold)}
    rates |= {name: error_rates((row for row in rows if row.group == name), threshold) for name in classes}
    if as_json:
        wrong = [row.number for row in rows if row.value is not None and (row.value > threshold) != row.label]
        data = {"rates": {name: _data(found) for name, found in rates.items()}, "wrong_rows": wrong}
        click.echo(json_text(data))
    else:
        _print(rates)


def _data(rates: ErrorRates) -> dict[str, Any]:
    named = {
        "false_positives": rates.false_positives,
        "false_negatives": rates.false_negatives,
        "unscored": rates.unscored,
    }
    return {
        name: {"count": rate.count, "total": rate.total, "share": rate.share, "interval": rate.interval}
        for name, rate in named.items()
    }


def _print(rates: Mapping[str, ErrorRates]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_edge=False,
        caption="In brackets: 95 % intervals.",
    )
    for name in ("", "false positives", "false negatives", "unscored"):
        table.add_column(name, justify="right" if name else "left")
    for name, found in rates.items():
        table.add_row(name, _words(found.false_positives), _words(found.false_negatives), f"{found.unscored.count:,}")
    Console().print(table)


def _words(rate: Rate) -> str:
    if rate.share is None:
        return "no such rows"
    low, high = rate.interval
    return f"{rate.share:.1%} ({rate.count:,} of {rate.total:,}) [{low:.1%}, {high:.1%}]"
