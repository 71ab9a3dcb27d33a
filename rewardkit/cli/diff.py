"""``rewardkit diff``: compares two rewards on the same rollouts."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rewardkit.cli.support.scoring_process import score_to_file
from rewardkit.cli.support.streams import json_text
from rewardkit.errors import RewardkitError, UsageError
from rewardkit.toolkit import check_page
from rewardkit.toolkit.numbers import FiniteRange

if TYPE_CHECKING:
    from rewardkit.insight.difference import Difference

REWARD_SUFFIXES = {".yaml", ".yml"}


class TooDifferentError(RewardkitError):
    """More rows changed than ``--fail-above`` allows."""


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML page with the rows that changed most."
)
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON.")
@click.option(
    "--most",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="The number of most changed rows on the page and in the JSON.",
)
@click.option(
    "--fail-above",
    type=FiniteRange(0, 1),
    help="Exit with 1 if more than this share of rows changed their reward.",
)
def command(
    a: Path, b: Path, files: tuple[str, ...], out: Path | None, as_json: bool, most: int, fail_above: float | None
) -> None:
    """Show what changes when reward B replaces reward A.

    A and B are two reward files (YAML), and FILES the rollouts to score with both; or A and B are two files that `rewardkit
    score` wrote from the same rows. Ranks and advantages are compared within groups, as GRPO, Dr. GRPO and RLOO see them.
    """
    from rewardkit.insight.difference import compare
    from rewardkit.insight.difference_report import write_page
    from rewardkit.insight.scored_file import read_scored_file

    are_rewards = a.suffix in REWARD_SUFFIXES
    if are_rewards != (b.suffix in REWARD_SUFFIXES):
        raise UsageError("compare two reward files (YAML), or two scored files, not one of each")
    if are_rewards != bool(files):
        needed = "name the rollouts to score: rewardkit diff A.yaml B.yaml ROLLOUTS"
        raise UsageError(needed if are_rewards else "two scored files need no further files")
    check_page("--out", out, (a, b, *files))
    if are_rewards:
        _check_rewards(a, b)
    named = a, b
    with tempfile.TemporaryDirectory(prefix="rewardkit-diff-") if are_rewards else nullcontext("") as folder:
        if are_rewards:
            a, b = (
                score_to_file(reward, files, Path(folder) / f"{name}.parquet") for name, reward in (("a", a), ("b", b))
            )
        scored_a, scored_b = read_scored_file(a), read_scored_file(b)
        difference = compare(scored_a, scored_b, most=most)
        if out is not None:
            write_page(out, scored_a, scored_b, difference, names=(str(named[0]), str(named[1])))
    if as_json:
        click.echo(json_text(dataclasses.asdict(difference)))
    else:
        _print(difference)
    if out is not None:
        click.echo(f"page: {out}", err=True)
    if fail_above is not None and difference.changed_share > fail_above:
        raise TooDifferentError(
            f"{difference.changed_share:.2%} of the rows changed their reward; --fail-above allows {fail_above:.2%}"
        )


def _check_rewards(*rewards: Path) -> None:
    """Read both reward files before the first is used. Raises as ``rewardkit score`` does."""
    from rewardkit.cli import load_registry
    from rewardkit.config.reading import read_config

    registry = load_registry()
    for reward in rewards:
        read_config(reward, registry)


def _print(difference: Difference) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from rewardkit.insight.difference_report import tables

    console = Console()
    for table in tables(difference):
        shown = Table(
            title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, caption=table.note or None
        )
        for index, name in enumerate(table.header):
            shown.add_column(name, justify="left" if index == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
