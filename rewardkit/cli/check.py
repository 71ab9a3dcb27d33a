"""``rewardkit check``: is this reward file or training configuration right, and do the data fit it? Runs no reward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import orjson

from rewardkit.cli import load_registry
from rewardkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from rewardkit.config.schedule import Schedule
    from rewardkit.config.spec import Composite, RewardConfig

MAX_LISTED = 20
"""Kinds of problems in the data that are listed."""


@dataclass(slots=True)
class Findings:
    """What was seen in the data."""

    rows: int = 0
    rollouts: int = 0
    prompts: set[int] = field(default_factory=set)
    """Hashes of the groups."""
    routed: dict[str, int] = field(default_factory=dict)
    """Rollouts for each composite."""
    problems: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """By component and problem: how many rollouts, and where the first stands."""

    def add(self, component: str, problem: str, where: str) -> None:
        """Count a problem."""
        entry = self.problems.setdefault((component, problem), [0, where])
        entry[0] += 1


@click.command("check")
@click.argument("file", type=click.Path())
@click.option(
    "--data", "data", multiple=True, help="Rollouts to hold the reward against: a file, a glob, or - for stdin."
)
@click.option("--map", "maps", multiple=True, metavar="NEW=OLD", help="Rename a column, as for `rewardkit score`.")
@click.option("--explode", default="", metavar="COL,…", help="List columns that go along with a list of completions.")
@click.option("--limit", type=click.IntRange(1), help="Look at no more than this many rows.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Put a value over a training configuration's."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    file: str,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    explode: str,
    limit: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a reward file, and hold it against data; or check a training configuration with the data that it names.

    Of a reward file: mistakes in the YAML and, with --data, columns that are missing, rows that can't be read, rows without a route,
    and references that can't be understood.

    Of a training configuration (it has a stage): mistakes in the YAML, a row in colours that tell what is in the loss, what a step
    costs, and what is odd: prompts in the loss, templates, duplicates, lengths, truncation, held-out rows that are trained on.

    No reward is run and nothing is trained. What would be refused ends with exit code 2; what is only odd does not.
    """
    from rewardkit.config import read_yaml  # noqa: PLC0415 - heavy

    if _is_training(read_yaml(file).data):
        if data or maps or explode:
            raise UsageError(
                "--data, --map and --explode are for reward files; a training configuration names its data"
            )
        from rewardkit.cli.check_training import check_training  # noqa: PLC0415 - heavy
        from rewardkit.cli.train import split_overrides  # noqa: PLC0415

        check_training(file, split_overrides(overrides), limit, as_json=as_json)
        return
    if overrides:
        raise UsageError("--set is for training configurations")
    _check_reward(file, data, maps, explode, limit, as_json=as_json)


def _is_training(document: Any) -> bool:
    """Whether a document is a training configuration, though its stage may be forgotten."""
    return isinstance(document, dict) and bool({"stage", "model", "output"} & document.keys())


def _check_reward(
    file: str, data: tuple[str, ...], maps: tuple[str, ...], explode: str, limit: int | None, *, as_json: bool
) -> None:
    from rewardkit.config import read_config  # noqa: PLC0415 - heavy

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
    from rewardkit.scoring.readers import Reader, find_inputs  # noqa: PLC0415 - heavy
    from rewardkit.scoring.records import Columns, decode  # noqa: PLC0415 - heavy

    columns = Columns.parse(maps, explode)
    findings = Findings()
    for chunk in Reader(find_inputs(data), limit=limit).chunks():
        decoded = decode(chunk, columns)
        findings.rows += len(chunk.rows)
        for rejected in decoded.rejected:
            findings.add("", f"can't be read: {rejected.reason}", f"{rejected.file}:{rejected.row}")
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
            for component, problem in problems:
                findings.add(component, problem, where)
    return findings


def _plain(findings: Findings | None) -> dict[str, Any] | None:
    if findings is None:
        return None
    return {
        "rows": findings.rows,
        "rollouts": findings.rollouts,
        "groups": len(findings.prompts),
        "routed": findings.routed,
        "problems": [
            {"component": component or None, "problem": problem, "count": count, "first": first}
            for (component, problem), (count, first) in findings.problems.items()
        ],
    }


def _print(config: RewardConfig, findings: Findings | None) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy

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


def print_composite(console: Console, composite: Composite) -> None:
    """A table of its components, and how they are put together."""
    from rich.markup import escape  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415 - heavy

    table = Table(box=None, pad_edge=False, header_style="bold", title=composite.name or None, title_justify="left")
    table.add_column("component", style="cyan", no_wrap=True)
    table.add_column("reward", no_wrap=True)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("reads")
    table.add_column("when")
    for item in composite.components:
        reads = ", ".join(item.needs) or "-"
        when = escape(item.when.text) if item.when else "always"
        table.add_row(item.name, escape(item.offer.type.name), weight_words(item.weight), escape(reads), when)
    console.print(table)
    gate = f" · gate: {escape(composite.gate.text)} (else {composite.gate_value:g})" if composite.gate else ""
    bounds = f" · clipped to {composite.clip[0]:g} … {composite.clip[1]:g}" if composite.clip else ""
    console.print(f"[dim]{composite.combine} of weight × value{gate}{bounds}[/dim]", highlight=False)


def weight_words(weight: Schedule) -> str:
    """A weight as a short text."""
    if weight.kind == "constant":
        return f"{weight.points[0][1]:g}"
    (first, low), (last, high) = weight.points[0], weight.points[-1]
    return f"{low:g} → {high:g} (steps {first}-{last}, {weight.kind})"


def _print_findings(console: Console, findings: Findings) -> None:
    from rich.markup import escape  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415 - heavy

    routed = "".join(f", {count:,} for {name}" for name, count in findings.routed.items() if name)
    summary = f"{findings.rows:,} rows, {findings.rollouts:,} rollouts of {len(findings.prompts):,} prompts{routed}"
    if not findings.problems:
        console.print(
            f"[green]ok[/green]  {summary}: all columns are there and every reference can be understood",
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
    if len(ranked) > MAX_LISTED:
        console.print(f"[dim]and {len(ranked) - MAX_LISTED} more kinds (--json lists all)[/dim]")
