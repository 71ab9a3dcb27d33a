"""``rewardkit score``: rows of a file in, scored rows out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rewardkit.cli import load_registry
from rewardkit.errors import TooManyUnscoredError

if TYPE_CHECKING:
    from rich.table import Table

    from rewardkit.scoring.run import RunResult

_MAX_PROCESSES = 4
"""More worker processes than this wait for the one that reads and writes."""
RETRYABLE = {"infra", "timeout", "plugin"}
"""Kinds of failures that may be gone when it is tried again."""


@click.command("score")
@click.argument("files", nargs=-1, required=True)
@click.option("--reward", "reward_file", required=True, type=click.Path(path_type=Path), help="The reward file (YAML).")
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Where scored rows go; the name ends in .jsonl, .jsonl.gz, .jsonl.zst or .parquet.",
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="NEW=OLD",
    help="Rename a column; OLD may be a path into nested objects (a.b), or several, separated by commas, which make a list.",
)
@click.option(
    "--explode",
    multiple=True,
    metavar="COL,…",
    help="List columns with one value per completion, where rows hold a list of completions.",
)
@click.option("--step", default=0, show_default=True, help="The training step that weight schedules are taken at.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: one per core]")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--fresh", is_flag=True, help="Throw away what an earlier run left, and start anew.")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Where scores are kept for later runs.")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep scores of other runs.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score only the first N rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
def command(
    files: tuple[str, ...],
    reward_file: Path,
    out: Path,
    maps: tuple[str, ...],
    explode: tuple[str, ...],
    step: int,
    workers: int | None,
    engine: Literal["local", "ray"],
    fresh: bool,
    cache: Path | None,
    no_cache: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Score the rollouts in FILES with a composite reward.

    FILES are JSON Lines (plain, .gz, .zst) or Parquet, globs in quotes, or - for standard input. A row holds a prompt and a
    completion, or a list of completions.

    A run that was cut off goes on where it was when the same command is given again. Rows that can't be read are set aside in
    OUT.rejected.jsonl.
    """
    from rewardkit.composite import CompositeReward, ScoreCache  # noqa: PLC0415 - loads when the verb runs
    from rewardkit.config.spec import read_config  # noqa: PLC0415
    from rewardkit.scoring.engines.local import RewardSpec  # noqa: PLC0415
    from rewardkit.scoring.formats.decode import Columns  # noqa: PLC0415
    from rewardkit.scoring.progress import make_progress  # noqa: PLC0415
    from rewardkit.scoring.run import ScoreOptions, score_files  # noqa: PLC0415

    columns = Columns.parse(maps, explode)
    registry = load_registry()
    config = read_config(reward_file, registry)
    kept = None if no_cache else ScoreCache(cache)
    processes = 1 if registry.observes_scoring else workers or min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))
    options = ScoreOptions(files, out, columns, engine, processes, fresh, limit)
    order = RewardSpec(
        reward_file.read_text(encoding="utf-8-sig"),
        str(reward_file),
        config.reward_id,
        step,
        workers,
        kept.file.parent if kept is not None else None,
    )
    with (
        contextlib.nullcontext() if kept is None else contextlib.closing(kept),
        CompositeReward(config, registry=registry, step=step, workers=workers, cache=kept) as reward,
    ):
        result = score_files(options, reward, order=order, progress=make_progress)
    print_result(result, out)
    if as_json:
        click.echo(json.dumps({"out": str(out), "reward_id": config.reward_id, **_json_summary(result)}))
    if result.too_many_unscored:
        raise TooManyUnscoredError(result.too_many_unscored)


def _json_summary(result: RunResult) -> dict[str, Any]:
    manifest = result.manifest
    counts = {name: manifest[name] for name in ("rows_read", "rows_written", "rows_rejected")}
    return {**counts, "already_complete": result.already_complete, **result.summary}


def print_result(result: RunResult, out: Path) -> None:
    """Print the summary of a run to standard error, in a table that fits 80 columns."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.markup import escape  # noqa: PLC0415 - heavy

    manifest, summary = result.manifest, result.summary
    console = Console(stderr=True, highlight=False, soft_wrap=False)
    console.print(_table(summary))
    for name, part in summary["components"].items():
        told = [f"{count:,} {kind}" for kind, count in sorted(part["unscored"].items())]
        if told:
            console.print(f"[yellow]{escape(name)} unscored:[/] {', '.join(told)}")
        if part["skipped"]:
            console.print(f"[dim]{escape(name)} skipped: {part['skipped']:,}[/]")
    for reason, times in list(summary["unscored_reasons"].items())[:3]:
        console.print(f"[dim]  {times:,} × {escape(reason)}[/]")
    if any(RETRYABLE & part["unscored"].keys() for part in summary["components"].values()):
        console.print(
            "[dim]To try those again: the same command with --fresh; scores in the cache are taken from there.[/]"
        )
    if rejected := manifest["rows_rejected"]:
        console.print(f"[yellow]{_rows(rejected)} could not be read: see {escape(str(out))}.rejected.jsonl[/]")
    if replaced := manifest["text_replaced_rows"]:
        console.print(f"[yellow]{_rows(replaced)} with lone surrogates, written as \ufffd; .jsonl would keep them[/]")
    if emptied := manifest["emptied_columns"]:
        console.print(f"[yellow]empty objects became null in {escape(', '.join(emptied))}; .jsonl would keep them[/]")
    done = "already complete: " if result.already_complete else ""
    console.print(f"{done}{_rows(manifest['rows_written'])} in {escape(str(out))}")


def _table(summary: dict[str, Any]) -> Table:
    from rich import box  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, width=min(80, shutil.get_terminal_size().columns)
    )
    table.add_column("", ratio=1, min_width=10, no_wrap=True, overflow="ellipsis")
    for title in ("n", "mean", "std", "min", "median", "max", "same", "unsc.", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    total = summary["reward"]
    table.add_row("reward", *_cells(total, total["unscored"]), style="bold")
    for name, part in summary["components"].items():
        table.add_row(Text(name), *_cells(part, sum(part["unscored"].values())))
    table.caption = "same: share of groups whose rollouts all have the same value"
    table.caption_justify = "left"
    return table


def _cells(part: dict[str, Any], unscored: int) -> list[str]:
    same = part["zero_spread_groups"]
    return [
        f"{part['n']:,}",
        _number(part["mean"]),
        _number(part["std"]),
        _number(part["min"]),
        ("" if part["median_exact"] else "≈") + _number(part["median"]),
        _number(part["max"]),
        "–" if same is None else ("" if part["zero_spread_exact"] else "≈") + f"{same:.0%}",
        f"{unscored:,}",
        _time(part["seconds"]) if "seconds" in part else "",
    ]


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _number(value: float | None) -> str:
    """Three significant digits, or whole where it is large."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f}s"
    return f"{seconds / 60:.0f}min" if seconds < 6000 else f"{seconds / 3600:.1f}h"
