"""``rewardkit check`` for a reward file: checks the reward and the data that it would score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from rewardkit.cli import load_registry
from rewardkit.cli.support.check_functions import functions_of, import_problem
from rewardkit.cli.support.composite_table import print_composite
from rewardkit.cli.support.streams import json_text
from rewardkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from rewardkit.config.spec import Component, RewardConfig
    from rewardkit.errors import Location
    from rewardkit.scoring.columns.columns import Columns
    from rewardkit.types import Rollout

MAX_LISTED = 20
"""The most kinds of problems that are listed."""


@dataclass(slots=True)
class Findings:
    """The findings of ``rewardkit check`` about the data."""

    rows: int = 0
    rollouts: int = 0
    groups: set[int] = field(default_factory=set)
    """The hash of each group."""
    unreadable: int = 0
    """The number of rows that can't be read."""
    faulty: int = 0
    """The number of rollouts with problems."""
    routed: dict[str, int] = field(default_factory=dict)
    """The number of rollouts for each composite."""
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    """The number of rollouts of each kind that a component distinguishes."""
    problems: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """For each component and problem, the number of rollouts and the place of the first."""
    hint: str = ""
    """Why ``rewardkit score`` would refuse a whole file, with what to do; empty if it would not."""
    warnings: list[str] = field(default_factory=list)
    """Suspicious facts for which ``rewardkit score`` does not refuse the data."""

    def add(self, component: str, problem: str, where: str) -> None:
        """Count a problem of one row or rollout.

        Args:
            component: The component; empty if the problem is of none.
            problem: The problem.
            where: The file and row.
        """
        entry = self.problems.setdefault((component, problem), [0, where])
        entry[0] += 1

    def summary(self) -> str:
        """Return in words how many rows and rollouts have problems; empty if there are none."""
        parts = []
        if self.faulty:
            parts.append(f"{self.faulty:,} of {_count(self.rollouts, 'rollout')} can't be scored")
        if self.unreadable:
            parts.append(f"{self.unreadable:,} of {_count(self.rows, 'row')} can't be read")
        if self.hint and not parts:
            parts.append(self.hint)
        return ", ".join(parts)


def check_reward(
    file: str, data: tuple[str, ...], columns: Columns, limit: int | None, *, as_json: bool, trust: bool = False
) -> None:
    """Check a reward file and, if there are any, the data, and print the findings.

    Args:
        file: The reward file.
        data: Files of rollouts, globs, or - for standard input.
        columns: How columns become the parts of a rollout.
        limit: Check only so many rows.
        as_json: Print the findings as JSON.
        trust: Import the functions that the reward file names, in a process of their own.

    Raises:
        ConfigError: The reward file is not valid.
        DataError: The data can't be read, or some of them can't be scored.
    """
    from rewardkit.config import read_config

    config = read_config(file, load_registry())
    findings = _inspect(config, data, columns, limit) if data else None
    functions = functions_of(config)
    if trust:
        problems = [(item.location, problem) for item in functions if (problem := import_problem(item))]
        if problems:
            raise ConfigError(*problems)
    if as_json:
        report: dict[str, Any] = {"reward_id": config.reward_id, "resolved": config.resolved, "data": _plain(findings)}
        report["functions"] = [{"use": item.offer.type.name, "imported": trust} for item in functions]
        click.echo(json_text(report))
    else:
        _print(config, findings, [] if trust else functions)
    if findings is not None and (summary := findings.summary()):
        raise DataError(summary)


def _inspect(config: RewardConfig, data: tuple[str, ...], columns: Columns, limit: int | None) -> Findings:
    from rewardkit.scoring.column_check import FIRST_ROWS, check_columns, column_paths
    from rewardkit.scoring.formats.decode import decode
    from rewardkit.scoring.formats.readers import Reader, find_inputs

    findings = Findings()
    reader = Reader(find_inputs(data), limit=limit)
    try:
        check_columns(reader, columns, config)
    except DataError as error:
        findings.hint = str(error)
    paths = config.field_paths
    unseen = dict(config.route_columns())
    names: dict[str, None] = {}
    for chunk in reader.chunks():
        decoded = decode(chunk, columns, paths)
        findings.rows += len(chunk.rows)
        findings.unreadable += len(decoded.rejected)
        for rejected in decoded.rejected:
            findings.add("", f"row can't be read: {rejected.reason}", f"{rejected.file}:{rejected.row}")
        for source, rollout in zip(decoded.sources, decoded.rollouts, strict=True):
            if unseen:
                unseen = {name: place for name, place in unseen.items() if name not in rollout.fields}
                if findings.rollouts < FIRST_ROWS:
                    names.update((path, None) for item in rollout.fields.items() for path in column_paths(*item))
            _check_rollout(config, rollout, chunk.where(source), findings)
    if unseen and findings.rollouts and not findings.hint:
        findings.warnings = _route_warnings(unseen, list(names))
    return findings


def _check_rollout(config: RewardConfig, rollout: Rollout, where: str, findings: Findings) -> None:
    findings.rollouts += 1
    findings.groups.add(hash(rollout.group if rollout.group is not None else rollout.prompt_text))
    try:
        problems = config.row_problems(rollout)
        composite = config.composite_for(rollout).name
    except DataError as error:
        findings.faulty += 1
        findings.add("", str(error), where)
        return
    findings.routed[composite] = findings.routed.get(composite, 0) + 1
    findings.faulty += bool(problems)
    for component, problem in problems:
        findings.add(component, problem, where)
    for kind in config.row_kinds(rollout):
        findings.kinds[kind] = findings.kinds.get(kind, 0) + 1


def _route_warnings(columns: Mapping[str, Location | None], names: list[str]) -> list[str]:
    from rewardkit.scoring.column_check import suggested_columns

    warnings = []
    for name, location in columns.items():
        close = suggested_columns(name, [other for other in names if other not in columns])
        hint = f"; did you mean {close[0]!r}?" if close else ""
        warnings.append(f"{location}: no row has column {name!r}, so this route takes none{hint}")
    return warnings


def _plain(findings: Findings | None) -> dict[str, Any] | None:
    if findings is None:
        return None
    return {
        "rows": findings.rows,
        "rollouts": findings.rollouts,
        "groups": len(findings.groups),
        "unscorable_rollouts": findings.faulty,
        "unreadable_rows": findings.unreadable,
        "routed": findings.routed,
        "kinds": [
            {"component": component, "kind": kind, "count": count}
            for (component, kind), count in findings.kinds.items()
        ],
        "hint": findings.hint or None,
        "warnings": findings.warnings,
        "problems": [
            {"component": component or None, "problem": problem, "count": count, "first": first}
            for (component, problem), (count, first) in findings.problems.items()
        ],
    }


def _print(config: RewardConfig, findings: Findings | None, not_imported: Sequence[Component]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    for composite in config.composites.values():
        print_composite(console, composite)
    for route in config.routes:
        globs = ", ".join(f"{name} like {glob}" for name, glob in route.match.items()) or "any other row"
        console.print(f"[dim]route[/dim]  {globs} → {route.composite}", highlight=False)
    console.print(
        f"[green]ok[/green]  {config.file} is valid; reward_id {config.reward_id}", highlight=False, soft_wrap=True
    )
    for name in dict.fromkeys(item.offer.type.name for item in not_imported):
        console.print(
            f"[dim]note[/dim]  {escape(name)} was read and not imported, so mistakes inside it were not looked for; --trust imports it",
            highlight=False,
            soft_wrap=True,
        )
    if findings is not None:
        _print_findings(console, findings)


def _print_findings(console: Console, findings: Findings) -> None:
    from rich.markup import escape
    from rich.table import Table

    routed = "".join(f", {count:,} for {name}" for name, count in findings.routed.items() if name)
    summary = (
        f"{_count(findings.rows, 'row')}, {_count(findings.rollouts, 'rollout')} in {_count(len(findings.groups), 'group')}"
        f"{routed}"
    )
    for (component, kind), count in sorted(findings.kinds.items(), key=lambda entry: (entry[0][0], -entry[1])):
        console.print(f"[cyan]{component}[/cyan]  {count:,} × {escape(kind)}", highlight=False)
    for warning in findings.warnings:
        console.print(f"[yellow]warning[/yellow]  {escape(warning)}", highlight=False)
    if not findings.summary():
        console.print(
            f"[green]ok[/green]  {summary}: the columns exist and every reference can be read",
            highlight=False,
        )
        return
    if not findings.problems:  # without rows; the error says so
        return
    console.print(f"[red]problems[/red] in {summary}:", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rollouts", justify="right")
    table.add_column("component", style="cyan", no_wrap=True)
    table.add_column("problem", ratio=1)
    table.add_column("first at", overflow="fold")
    ranked = sorted(findings.problems.items(), key=lambda entry: -entry[1][0])
    for (component, problem), (count, first) in ranked[:MAX_LISTED]:
        table.add_row(f"{count:,}", component or "-", escape(problem), escape(first))
    console.print(table)
    if findings.hint:
        console.print(f"[yellow]{escape(findings.hint)}[/yellow]", highlight=False)
    if len(ranked) > MAX_LISTED:
        console.print(f"[dim]and {len(ranked) - MAX_LISTED} more kinds (--json lists all)[/dim]")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
