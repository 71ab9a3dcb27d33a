"""``rewardkit report``: training runs as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The file that is written.",
)
def command(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the training runs in the folders RUNS, all in the same charts, with what differs between their configurations.

    A run that is still going on can be drawn, too. Every run draws itself at its end, into report.html in its folder.
    """
    from rewardkit.train.reports.run_report import write_report  # noqa: PLC0415 - heavy

    click.echo(str(write_report(runs, out)))
