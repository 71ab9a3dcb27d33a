"""``rewardkit report``: writes an HTML report of a scored file or of training runs."""

from __future__ import annotations

from pathlib import Path

import click

from rewardkit.errors import UsageError
from rewardkit.toolkit import check_page


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The HTML file to write.",
)
def command(paths: tuple[Path, ...], out: Path) -> None:
    """Write an HTML report that needs neither a network nor scripts.

    PATHS is one file that `rewardkit score` wrote: the page shows the distribution of each component, how much of the
    training signal it supplies, flat groups, correlations, and examples.

    Or PATHS are folders of training runs: the page draws all of them in the same charts and lists what differs between
    their configurations. Unfinished runs can be drawn, too. Every run writes such a report at its end.
    """
    check_page("--out", out, paths)
    if missing := [path for path in paths if not path.exists()]:
        raise UsageError(f"there is no file or folder {missing[0]}")
    if not any(path.is_file() for path in paths):
        from rewardkit.train.reports.run_report import write_report

        click.echo(str(write_report(paths, out)))
        return
    if len(paths) > 1:
        raise UsageError(
            "a page shows one scored file, or any number of training runs; compare two files with `rewardkit diff`"
        )
    from rewardkit.insight.scored_report import write_scored_report

    write_scored_report(paths[0], out)
    click.echo(str(out))
