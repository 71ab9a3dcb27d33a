"""``rewardkit audit``: attacks a reward with cheats before a policy does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rewardkit.cli.support.scoring_process import scored_rows

if TYPE_CHECKING:
    from rewardkit.insight.audit import Finding, Levels


@click.command("audit")
@click.argument("reward", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--data",
    "files",
    multiple=True,
    required=True,
    help="Rollouts, some right and some wrong; may be given several times.",
)
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="The most prompts to attack.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="The number of cheats to show.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option(
    "--fail-above",
    type=click.FloatRange(0, 1),
    help="Exit with 1 if any cheat is accepted on more than this share of rows.",
)
def command(
    reward: Path, files: tuple[str, ...], limit: int, top: int, as_json: bool, fail_above: float | None
) -> None:
    """Attack REWARD with known cheats.

    Each cheat writes completions for the prompts of the data that do not solve the task: hedges, skeletons of the expected form,
    padding, instructions to a judge, programs that exit early. A cheat is accepted on a row if it gets at least the middle of what
    right and wrong completions of the data get. Plugins add cheats with the hook `register_cheats`.
    """
    from rewardkit.cli import load_registry
    from rewardkit.composite import load_reward
    from rewardkit.insight.audit import audit, honest_rows, levels_of
    from rewardkit.insight.cheats import CHEATS

    registry = load_registry()
    rows = honest_rows(scored_rows(reward, files))
    levels = levels_of(rows)
    cheats = [*CHEATS, *registry.cheats]
    with load_reward(reward) as loaded:
        findings = audit(loaded, cheats, rows[:limit], levels)
    if as_json:
        import orjson

        click.echo(orjson.dumps(_data(findings, levels), option=orjson.OPT_INDENT_2))
    else:
        _print(findings, levels, top)
    if fail_above is not None and any(found.share > fail_above for found in findings):
        raise click.exceptions.Exit(1)


def _data(findings: Sequence[Finding], levels: Levels) -> dict[str, Any]:
    return {
        "levels": {"right": levels.right, "wrong": levels.wrong, "threshold": levels.threshold},
        "cheats": [
            {
                "name": found.cheat.name,
                "description": found.cheat.description,
                "rows": found.rows,
                "accepted": found.accepted,
                "share": found.share,
                "mean_best_reward": found.mean_best,
                "unscored": found.unscored,
                "example": found.example,
                "example_reward": found.example_reward,
                "reasons": found.reasons,
            }
            for found in findings
        ],
    }


def _print(findings: Sequence[Finding], levels: Levels, top: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    accepted = [found for found in findings if found.accepted]
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"Right completions get {levels.right:.3g}, wrong ones {levels.wrong:.3g}; accepted means at least {levels.threshold:.3g}.",
    )
    table.add_column("cheat")
    table.add_column("accepted", justify="right")
    table.add_column("best reward", justify="right")
    table.add_column("example, and what the components say")
    for found in findings[:top]:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.reasons.items())
        table.add_row(
            f"{found.cheat.name}\n[dim]{escape(found.cheat.description)}[/dim]",
            f"{found.share:.0%} ({found.accepted} of {found.rows})",
            f"{found.example_reward:.3g}",
            f"{escape(repr(found.example[:100]))}\n[dim]{escape(reasons[:200])}[/dim]",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{len(accepted)} of {len(findings)} cheats are accepted on at least one row."
        if accepted
        else f"None of {len(findings)} cheats is accepted."
    )
