"""A calibration as a table, as JSON, and as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rewardkit.toolkit import Line, Rate, line_chart, write_whole
from rewardkit_judge.calibration import Calibration, Estimate
from rewardkit_judge.commands.shared import costs_text

_WIDE = 130
"""Columns of a terminal that has room for what a measure means."""


def measures(found: Calibration) -> list[tuple[str, str, str]]:
    """Return what was measured as (name, value in words, what it means)."""
    told = [
        ("agreement", _rate(found.agreement), "of the rows with a score, how many the judge decides as the label says"),
        ("Cohen's κ", _estimate(found.kappa), "agreement beyond chance: 0 is chance, 1 is perfect"),
        ("false positives", _rate(found.errors.false_positives), "rows labelled false that the judge accepts"),
        ("false negatives", _rate(found.errors.false_negatives), "rows labelled true that the judge rejects"),
        ("no score", _rate(found.errors.unscored), "rows without a verdict; they count nowhere else"),
    ]
    if found.consistency.total:
        told.append(("self-consistency", _rate(found.consistency), "pairs of votes on one question that agree"))
    if found.first_shown is not None and found.orders_agree is not None and found.longer is not None:
        told += [
            ("position bias", _rate(found.first_shown), "verdicts for the response shown first: one half without bias"),
            ("both orders agree", _rate(found.orders_agree), "pairs whose verdict does not depend on the order"),
            ("prefers the longer", _rate(found.longer[0]), "pairs in which the judge prefers the longer response"),
            (
                "labels prefer the longer",
                _rate(found.longer[1]),
                "the same for the labels: more of the judge is length bias",
            ),
        ]
    else:
        told.append(
            ("length bias", _estimate(found.length), "correlation of the judge's error with log length: 0 without bias")
        )
    return told


def print_table(found: Calibration, costs: Mapping[str, float]) -> None:
    """Print the measures on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="In brackets: 95 % intervals.", caption_justify="left")
    table.add_column("")
    table.add_column("value", no_wrap=True)
    console = Console(highlight=False)
    is_wide = console.width >= _WIDE
    if is_wide:
        table.add_column("", style="dim")
    for name, value, meaning in measures(found):
        table.add_row(name, value, *([meaning] if is_wide else []))
    console.print(f"{found.rows:,} labelled rows")
    console.print(table)
    if found.bins:
        bins = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("judge's value", "rows", "labelled true"):
            bins.add_column(name, justify="right", no_wrap=True)
        for item in found.bins:
            bins.add_row(f"{item.low:.1f} to {item.high:.1f}", f"{item.true.total:,}", _rate(item.true))
        console.print(bins)
    console.print(f"cost: {costs_text(costs)}", soft_wrap=True)


def as_json(found: Calibration, costs: Mapping[str, float]) -> dict[str, Any]:
    """Return everything as JSON data. Rates have count, total, share and interval."""
    return {**_plain(found), "costs": dict(costs)}


def write_page(path: Path, found: Calibration, costs: Mapping[str, float], *, title: str, data: str) -> None:
    """Write a page that loads nothing.

    Args:
        path: The page.
        found: What was measured.
        costs: What it cost.
        title: The judge.
        data: The name of the data.

    Raises:
        OSError: The page can't be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rewardkit_judge"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("calibration.html.jinja").render(
        title=title,
        data=data,
        rows=found.rows,
        measures=measures(found),
        plot=Markup(reliability_plot(found)),  # noqa: S704 - numbers only; texts are escaped by line_chart
        bins=[(f"{item.low:.1f} to {item.high:.1f}", item.true.total, _rate(item.true)) for item in found.bins],
        cost=costs_text(costs),
    )
    write_whole(path, page.encode("utf-8", "backslashreplace"))


def reliability_plot(found: Calibration) -> str:
    """Draw the share of rows labelled true over the judge's value, with intervals, and the diagonal of perfect calibration, as SVG."""
    points = [(item.mean, item.true.share or 0.0) for item in found.bins]
    band = [(item.mean, *item.true.interval) for item in found.bins]
    lines = [
        Line("perfect calibration", [(0.0, 0.0), (1.0, 1.0)], "#888888", dashed=True),
        Line("rows", points, dots=True, band=band),
    ]
    return line_chart(
        "Share labelled true",
        lines,
        width=520,
        height=380,
        bounds=(0.0, 1.0),
        x_label="the judge's value",
        note="band: 95 % interval",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Rate):
        return {"count": value.count, "total": value.total, "share": value.share, "interval": list(value.interval)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _rate(rate: Rate) -> str:
    if rate.share is None:
        return "no such rows"
    low, high = rate.interval
    return f"{rate.share:.1%} ({rate.count:,} of {rate.total:,}) [{low:.1%}, {high:.1%}]"


def _estimate(found: Estimate) -> str:
    return "not defined" if found.value is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
