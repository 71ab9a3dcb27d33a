"""`rewardkit check` for a reward file: checks the reward and the data that it would score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import orjson

from rewardkit.cli import load_registry
from rewardkit.cli.support.composite_table import print_composite
from rewardkit.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from rewardkit.config.spec import RewardConfig


MAX_LISTED = 20
"""The most kinds of problems that are listed."""


@dataclass(slots=True)
class Findings:
    """What `check` found in the data."""

    rows: int = 0
    rollouts: int = 0
    prompts: set[int] = field(default_factory=set)
    """The hash of each group."""
    routed: dict[str, int] = field(default_factory=dict)
    """The number of rollouts for each composite."""
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    """The number of rollouts of each kind that a component distinguishes."""
    problems: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """For each component and problem, the number of rollouts and the place of the first."""
    hint: str = ""
    """Why `rewardkit score` would refuse a whole file, with what to do; empty if it would not."""

    def add(self, component: str, problem: str, where: str) -> None:
        """Count a problem."""
        entry = self.problems.setdefault((component, problem), [0, where])
        entry[0] += 1


def check_reward(
    file: str, data: tuple[str, ...], maps: tuple[str, ...], explode: str, limit: int | None, *, as_json: bool
) -> None:
    """Check a reward file and, if there are any, the data, and print the findings.

    Raises:
        ConfigError: The reward file is wrong.
        DataError: The data have problems, or can't be read.
    """
    from rewardkit.config import read_config

    config = read_config(file, load_registry())
    findings = _inspect(config, data, maps, tuple(filter(None, explode.split(","))), limit) if data else None
    if as_json:
        report = {"reward_id": config.reward_id, "resolved": config.resolved, "data": _plain(findings)}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(config, findings)
    if findings is not None and findings.problems:
        count = sum(entry[0] for entry in findings.problems.values())
        raise DataError(f"{count:,} problem{'s' * (count != 1)} found in the data")


def _inspect(
    config: RewardConfig, data: tuple[str, ...], maps: tuple[str, ...], explode: tuple[str, ...], limit: int | None
) -> Findings:
    from rewardkit.scoring.column_check import check_columns
    from rewardkit.scoring.formats.decode import STANDARD, Columns, decode, field_paths
    from rewardkit.scoring.formats.readers import Reader, find_inputs

    columns = Columns.parse(maps, explode)
    findings = Findings()
    reader = Reader(find_inputs(data), limit=limit)
    try:
        check_columns(reader, columns, config)
    except DataError as error:
        findings.hint = str(error)
    paths = field_paths(config)
    for chunk in reader.chunks():
        decoded = decode(chunk, columns, paths)
        findings.rows += len(chunk.rows)
        for rejected in decoded.rejected:
            findings.add("", f"row can't be read: {rejected.reason}", f"{rejected.file}:{rejected.row}")
        for source, rollout in zip(decoded.sources, decoded.rollouts, strict=True):
            where = chunk.where(source)
            findings.rollouts += 1
            findings.prompts.add(hash(rollout.group if rollout.group is not None else rollout.prompt_text))
            try:
                problems = config.row_problems(rollout)
                composite = config.composite_for(rollout).name
            except DataError as error:
                findings.add("", str(error), where)
                continue
            findings.routed[composite] = findings.routed.get(composite, 0) + 1
            composites = config.composites[composite]
            gate = composites.gate.fields if composites.gate else ()
            lacking = [name for name in gate if rollout.fields.get(name) is None and name not in STANDARD]
            problems += [("", f"the row has no value in column {name!r}, which the gate reads") for name in lacking]
            for component, problem in problems:
                findings.add(component, problem, where)
            for kind in config.row_kinds(rollout):
                findings.kinds[kind] = findings.kinds.get(kind, 0) + 1
    if findings.hint and not findings.problems:
        findings.add("", findings.hint, data[0])
    return findings


def _plain(findings: Findings | None) -> dict[str, Any] | None:
    if findings is None:
        return None
    return {
        "rows": findings.rows,
        "rollouts": findings.rollouts,
        "groups": len(findings.prompts),
        "routed": findings.routed,
        "kinds": [
            {"component": component, "kind": kind, "count": count}
            for (component, kind), count in findings.kinds.items()
        ],
        "hint": findings.hint or None,
        "problems": [
            {"component": component or None, "problem": problem, "count": count, "first": first}
            for (component, problem), (count, first) in findings.problems.items()
        ],
    }


def _print(config: RewardConfig, findings: Findings | None) -> None:
    from rich.console import Console

    console = Console()
    for composite in config.composites.values():
        print_composite(console, composite)
    for route in config.routes:
        globs = ", ".join(f"{name} like {glob}" for name, glob in route.match.items()) or "any other row"
        console.print(f"[dim]route[/dim]  {globs} → {route.composite}", highlight=False)
    console.print(
        f"[green]ok[/green]  {config.file} is valid; reward_id {config.reward_id}", highlight=False, soft_wrap=True
    )
    if findings is not None:
        _print_findings(console, findings)


def _print_findings(console: Console, findings: Findings) -> None:
    from rich.markup import escape
    from rich.table import Table

    routed = "".join(f", {count:,} for {name}" for name, count in findings.routed.items() if name)
    summary = f"{findings.rows:,} rows, {findings.rollouts:,} rollouts of {len(findings.prompts):,} prompts{routed}"
    for (component, kind), count in sorted(findings.kinds.items(), key=lambda entry: (entry[0][0], -entry[1])):
        console.print(f"[cyan]{component}[/cyan]  {count:,} × {escape(kind)}", highlight=False)
    if not findings.problems:
        console.print(
            f"[green]ok[/green]  {summary}: the columns exist and every reference can be read",
            highlight=False,
        )
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
