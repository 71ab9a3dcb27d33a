"""What an audit found, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewardkit.insight.audit.report import shortened, visible

if TYPE_CHECKING:
    from rewardkit.insight.audit.attack import Finding
    from rewardkit.insight.audit.report import AuditReport


def print_report(report: AuditReport, top: int) -> None:
    """Print the tables of a report.

    Args:
        report: The report.
        top: The number of cheats to show.
    """
    console = Console()
    console.print(_cheats(report, top))
    if len(report.attack.components) > 1:
        console.print(_components(report))
    if report.searched is not None:
        console.print(_search(report))
    if report.policy is not None:
        console.print(_policy(report))
    accepted = sum(found.accepted > 0 for found in report.findings)
    console.print(
        f"{accepted} of {len(report.findings)} cheats are accepted on at least one row; "
        f"{report.accepted_rows:,} of {len(report.attack.rows):,} rows accept at least one."
        if accepted
        else f"None of {len(report.findings)} cheats is accepted."
    )


def _table(*columns: tuple[str, bool], title: str = "", caption: str = "") -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    table.caption = caption or None
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left")
    return table


def _cheats(report: AuditReport, top: int) -> Table:
    levels = report.levels
    table = _table(
        ("cheat", False), ("accepted", True), ("best reward", True), ("example, and what the components say", False),
        caption=f"Right completions get {levels.right:.3g}, wrong ones {levels.wrong:.3g}; accepted means at least {levels.threshold:.3g}.",
    )  # fmt: skip
    for found in report.findings[:top]:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.reasons.items()) if found.accepted else ""
        table.add_row(
            f"{escape(found.cheat.name)}\n[dim]{escape(found.cheat.description)}[/dim]",
            _share(found),
            f"{found.example_reward:.3g}",
            f"{_quoted(found.example)}\n[dim]{escape(visible(reasons[:200]))}[/dim]",
        )
    return table


def _components(report: AuditReport) -> Table:
    table = _table(
        ("component", False), ("right", True), ("wrong", True), ("best cheat", False), ("mean value", True), ("accepted", True),
        title="Components",
    )  # fmt: skip
    for part in report.attack.components:
        levels = part.levels
        for place, found in enumerate(part.best[:3]):
            table.add_row(
                escape(part.name) if place == 0 else "",
                f"{levels.right:.3g}" if levels and place == 0 else "",
                f"{levels.wrong:.3g}" if levels and place == 0 else "",
                escape(found.cheat.name),
                f"{found.mean_best:.3g}",
                f"{found.share:.0%}" if levels and levels.separates else "does not judge",
            )
    return table


def _search(report: AuditReport) -> Table:
    table = _table(
        ("recipe", False), ("accepted", True), ("mean reward", True), ("example", False),
        title=f"Search ({report.evaluations:,} completions)",
    )  # fmt: skip
    for found in report.searched.findings if report.searched else ():
        table.add_row(escape(found.cheat.description), _share(found), f"{found.mean_best:.3g}", _quoted(found.example))
    return table


def _policy(report: AuditReport) -> Table:
    policy = report.policy
    assert policy is not None  # noqa: S101 - the caller has looked
    table = _table(
        ("completions", True), ("at first", True), ("mean reward", True), ("right", True), ("form", False), ("best completion", False),
        title=f"What a policy found in {policy.steps} steps",
    )  # fmt: skip
    for cluster in policy.clusters:
        table.add_row(
            f"{cluster.share:.0%}",
            f"{cluster.early_share:.0%}",
            "–" if cluster.mean_reward is None else f"{cluster.mean_reward:.3g}",
            "–" if cluster.right is None else f"{cluster.right:.0%}",
            escape(visible(shortened(cluster.skeleton, 80))),
            _quoted(cluster.example.completion),
        )
    return table


def _share(found: Finding) -> str:
    return f"{found.share:.0%} ({found.accepted:,} of {found.rows:,})"


def _quoted(text: str) -> str:
    return escape(repr(shortened(text, 120)))
