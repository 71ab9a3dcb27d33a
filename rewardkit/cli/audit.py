"""``rewardkit audit``: attacks a reward with cheats before a policy does."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rewardkit.cli.support.labels import check_labels
from rewardkit.cli.support.scoring_process import scored_rows
from rewardkit.cli.support.streams import json_text
from rewardkit.errors import DataError, RewardkitError, UsageError
from rewardkit.toolkit import check_page
from rewardkit.toolkit.numbers import FiniteRange

if TYPE_CHECKING:
    from rewardkit.cheat import Cheat
    from rewardkit.composite import CompositeReward
    from rewardkit.insight.audit.attack import Attack
    from rewardkit.insight.audit.report import AuditReport
    from rewardkit.insight.audit.rows import HonestRow, Levels

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class CheatedError(RewardkitError):
    """A cheat is accepted on more rows than ``--fail-above`` allows."""


@click.command("audit")
@click.argument("reward", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--data",
    "files",
    multiple=True,
    required=True,
    help="Rollouts, some right and some wrong; may be given several times.",
)
@click.option(
    "--label-column",
    help="The column that says whether a completion is right: true or false, 1 or 0. Without one, the reward itself tells.  "
    "[default: label, where it holds true or false]",
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The most prompts to attack.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="The number of cheats to show.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option(
    "--fail-above",
    type=FiniteRange(0, 1),
    help="Exit with 1 if any cheat is accepted on more than this share of rows.",
)
@click.option(
    "--budget",
    metavar="TIME|NUMBER",
    help="Also search for new cheats: for a time such as 60s or 5m, or for a number of completions, which is repeatable.",
)
@click.option("--seed", default=0, show_default=True, help="The seed of the search.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also train a policy against REWARD: a training configuration of stage grpo, whose reward is replaced.",
)
@click.option(
    "--policy-steps", type=click.IntRange(1), help="The number of training steps, instead of the configuration's."
)
@click.option(
    "--policy-out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the run in this folder, which must not hold another run that you need; by default it is temporary.",
)
def command(
    reward: Path,
    files: tuple[str, ...],
    label_column: str | None,
    limit: int,
    top: int,
    out: Path | None,
    as_json: bool,
    fail_above: float | None,
    budget: str | None,
    seed: int,
    policy: Path | None,
    policy_steps: int | None,
    policy_out: Path | None,
) -> None:
    """Attack REWARD with known cheats.

    Each cheat writes completions for the prompts of the data that do not solve the task: hedges, skeletons of the expected form,
    padding, instructions to a judge, programs that exit early. A cheat is accepted on a row if it gets at least the middle of what
    right and wrong completions of the data get. Plugins add cheats with the hook `register_cheats`.
    """
    from rewardkit.cli import INTERRUPTED, load_registry
    from rewardkit.composite import load_reward
    from rewardkit.insight.audit import honest_rows
    from rewardkit.insight.audit.levels import found_levels
    from rewardkit.insight.audit.report import AuditReport, to_data, write_page
    from rewardkit.insight.cheats import CHEATS

    if (policy_steps is not None or policy_out is not None) and policy is None:
        raise UsageError("--policy-steps and --policy-out need --policy CONFIG")
    limits = None if budget is None else parse_budget(budget)
    check_page("--out", out, (reward, *files, *(() if policy is None else (policy,))))
    registry = load_registry()
    trained = None
    if policy is not None:
        from rewardkit.cli.support.policy_attack import PolicyAttack

        trained = PolicyAttack(policy, reward, load_registry(), policy_steps, policy_out)
    if label_column is not None:
        check_labels(files, label_column)
    rows = honest_rows(scored_rows(reward, files), label_column)
    if not rows:
        raise DataError("no row of the data could be scored, so there is nothing to compare cheats with")
    cheats = [*CHEATS, *registry.cheats]
    with load_reward(reward) as loaded:
        levels = found_levels(loaded, rows)
        rows = rows[:limit]
        report = AuditReport(reward, loaded.reward_id, levels, rows, _attacked(loaded, cheats, rows, levels))
        if limits is not None:
            report = _searched(report, loaded, cheats, limits, seed)
    if trained is not None and not report.interrupted:
        import dataclasses

        report = dataclasses.replace(report, policy=trained.run())
    if out is not None:
        write_page(report, out)
    if as_json:
        click.echo(json_text(to_data(report)))
    else:
        from rewardkit.cli.support.audit_tables import print_report

        print_report(report, top)
    if out is not None:
        click.echo(f"page: {out}", err=True)
    if report.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    worst = max(report.findings, key=lambda found: found.share, default=None)
    if fail_above is not None and worst is not None and worst.share > fail_above:
        raise CheatedError(
            f"{worst.cheat.name} is accepted on {worst.share:.1%} of the rows; --fail-above allows {fail_above:.1%}"
        )


def parse_budget(text: str) -> tuple[int | None, float | None]:
    """Return the completions and the seconds that a budget allows; one of them is None.

    Args:
        text: A number of completions, or a time with its unit.

    Raises:
        UsageError: It is neither.
    """
    match = _BUDGET.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0 or (match[2] is None and "." in match[1]):
        raise UsageError(
            f"--budget {text}: give a time such as 60s, 5m or 1h, or a whole number of completions such as 20000"
        )
    if match[2] is None:
        return int(match[1]), None
    return None, float(match[1]) * _SECONDS[match[2]]


def _attacked(loaded: CompositeReward, cheats: Sequence[Cheat], rows: Sequence[HonestRow], levels: Levels) -> Attack:
    from rich.progress import Progress

    from rewardkit.insight.audit import attack

    with Progress(console=_stderr(), transient=True) as progress:
        task = progress.add_task(f"attacking with {len(cheats)} cheats", total=len(rows))
        return attack(loaded, cheats, rows, levels, lambda done, _all: progress.update(task, completed=done))


def _searched(
    report: AuditReport,
    loaded: CompositeReward,
    cheats: Sequence[Cheat],
    limits: tuple[int | None, float | None],
    seed: int,
) -> AuditReport:
    import dataclasses

    from rich.progress import Progress

    from rewardkit.insight.audit import attack
    from rewardkit.insight.audit.search import Budget, search
    from rewardkit.interrupts import answering

    scored = [0]
    interrupted = []
    with (
        answering(lambda *_: interrupted.append(True), signal.SIGINT, signal.SIGTERM),
        Progress(console=_stderr(), transient=True) as progress,
    ):
        task = progress.add_task("searching", total=limits[0])

        def update(evaluations: int) -> None:
            scored[0] = evaluations
            progress.update(task, completed=evaluations)

        new = search(
            loaded, cheats, report.honest, report.levels, budget=Budget(*limits), seed=seed, progress=update,
            stopped=lambda: bool(interrupted),
        )  # fmt: skip
    if interrupted:
        click.echo("interrupted: the search ends here, and what it has found follows", err=True)
    found = attack(loaded, new, report.honest, report.levels)
    return dataclasses.replace(report, searched=found, evaluations=scored[0], interrupted=bool(interrupted))


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)
