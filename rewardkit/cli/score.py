"""``rewardkit score``: scores the rows of files and writes them with their scores."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rewardkit.cli import load_registry
from rewardkit.cli.support.streams import RewardOutput
from rewardkit.errors import TooManyUnscoredError, UsageError
from rewardkit.toolkit.numbers import FiniteRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from rewardkit.scoring.run import RunResult

STDOUT = "-"
_MAX_PROCESSES = 4
"""The default limit of worker processes; more would wait for the process that reads and writes."""
RETRYABLE = {"infra", "timeout", "plugin"}
"""Kinds of failures that may not occur again on another try."""


@click.command("score")
@click.argument("files", nargs=-1, required=True)
@click.option("--reward", "reward_file", required=True, type=click.Path(path_type=Path), help="The reward file (YAML).")
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="The output: its name ends in .jsonl, .jsonl.gz, .jsonl.zst, .jsonl.bz2, .parquet, or .hf (a folder for datasets). "
    "- writes JSON Lines to standard output.",
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="NEW=OLD",
    help="Read column OLD as NEW. OLD may be a path into nested objects (a.b, a.0, a.*.b), or several paths separated by commas, "
    "whose values become a list. Or a preset for another system's rows: @verl, @trl, @openinstruct, @gym, @skyrl, @inspect, "
    "@lighteval.",
)
@click.option(
    "--parse",
    multiple=True,
    metavar="COL,…",
    help="Columns, or paths into nested ones, whose text is JSON to be read.",
)
@click.option(
    "--explode",
    multiple=True,
    metavar="COL,…",
    help="For rows with a list of completions: other list columns with one value per completion.",
)
@click.option(
    "--step",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The training step at which weight schedules are evaluated.",
)
@click.option("--workers", type=click.IntRange(1), help="The number of worker processes.  [default: one per core]")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where to score: on this machine, or on a Ray cluster.",
)
@click.option("--fresh", is_flag=True, help="Discard the output of an earlier run and score everything.")
@click.option(
    "--retry",
    metavar="unscored[:KIND,…]",
    help="Score only the unscored rows of a finished output again, and keep all others. KIND is a reason: "
    "infra, timeout, reference, input or plugin.",
)
@click.option(
    "--repeat",
    type=click.IntRange(2),
    metavar="K",
    help="Score each row K times, without a cache, and tell which rows get differing scores. OUT holds the first scoring, "
    "OUT.repeat.json what was found.",
)
@click.option(
    "--fail-above",
    type=FiniteRange(0, 1),
    metavar="SHARE",
    help="With --repeat: exit with 1 if more than this share of rows is unstable.",
)
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="The folder of the score cache.")
@click.option("--no-cache", is_flag=True, help="Do not read or write the score cache.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score only the first N rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the first traceback of each component whose reward raises an exception.",
)
@click.option(
    "--temporary", is_flag=True, hidden=True, help="OUT is of use to the calling process only: do not name it."
)
def command(
    files: tuple[str, ...],
    reward_file: Path,
    out: Path,
    maps: tuple[str, ...],
    parse: tuple[str, ...],
    explode: tuple[str, ...],
    step: int,
    workers: int | None,
    engine: Literal["local", "ray"],
    fresh: bool,
    cache: Path | None,
    no_cache: bool,
    limit: int | None,
    retry: str | None,
    repeat: int | None,
    fail_above: float | None,
    as_json: bool,
    verbose: bool,
    temporary: bool,
) -> None:
    """Score the rollouts in FILES with a composite reward.

    FILES are JSON Lines, Parquet, Arrow, CSV, TSV or JSON arrays (text also as .gz, .zst or .bz2), globs in quotes, folders that
    `save_to_disk` of Hugging Face's datasets wrote, hf:ORG/NAME:SPLIT for a name on its hub, or - for standard input.
    A row holds a prompt and a completion, a prompt and a list of completions, or the messages of a dialogue.

    If a run is interrupted, the same command resumes it. Rows that can't be read are written to OUT.rejected.jsonl.

    Exits with 3 if no row got a reward, or if more rows than `unscored: abort_above` allows could not be read or scored; with 1
    if --repeat finds more unstable rows than --fail-above allows.
    """
    from rewardkit.cli.support.repeat import check_stability, print_stability
    from rewardkit.composite import CompositeReward, ScoreCache
    from rewardkit.config.reading import read_config
    from rewardkit.scoring.columns.columns import Columns
    from rewardkit.scoring.engines.local import RewardSpec
    from rewardkit.scoring.progress import make_progress
    from rewardkit.scoring.repeat import Stability, repeat_files
    from rewardkit.scoring.retry import Retry, retry_rows
    from rewardkit.scoring.run import ScoreOptions, score_files

    # Arrow's usual allocator keeps 60 MB more of freed memory for itself, and is no faster here. Worker processes inherit this.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    columns = Columns.parse(maps, explode, parse)
    tries = None if retry is None else Retry.parse(retry)
    to_stdout = str(out) == STDOUT
    if tries is not None and (fresh or limit is not None or to_stdout):
        raise UsageError(
            "--retry scores rows of a finished output again: leave out --fresh and --limit, and name the output"
        )
    if to_stdout and as_json:
        raise UsageError("--out - and --json both write to standard output; choose one of them")
    if repeat is None and fail_above is not None:
        raise UsageError("--fail-above is the share of unstable rows that --repeat may find: give --repeat K")
    if repeat is not None and (tries is not None or to_stdout or cache is not None):
        raise UsageError(
            "--repeat scores all rows anew into a file: leave out --retry and --cache, and name the output"
        )
    output = click.get_current_context().with_resource(RewardOutput())
    registry = load_registry()
    config = read_config(reward_file, registry)
    kept = None if no_cache or repeat is not None else ScoreCache(cache)
    processes = 1 if registry.observes_scoring else workers or min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))
    options = ScoreOptions(files, out, columns, engine, processes, fresh, limit)
    spec = RewardSpec(
        reward_file.read_text(encoding="utf-8-sig"),
        str(reward_file),
        config.reward_id,
        step,
        workers,
        kept.file.parent if kept is not None else None,
        share_equal=repeat is None,
    )

    def make_reward() -> CompositeReward:
        return CompositeReward(
            config, registry=registry, step=step, workers=workers, cache=kept, share_equal=repeat is None
        )

    found: Stability | None = None
    with (
        tempfile.TemporaryDirectory(prefix="rewardkit-score-") if to_stdout else contextlib.nullcontext("") as folder,
        contextlib.ExitStack() as stack,
    ):
        if verbose:
            stack.enter_context(_shown_log())
        if kept is not None:
            stack.callback(kept.close)
        if to_stdout:
            options = dataclasses.replace(options, out=Path(folder) / "rows.jsonl")
        if repeat is not None:
            told = partial(_tell_scoring, repeat)
            result, found = repeat_files(options, repeat, make_reward, spec=spec, progress=make_progress, told=told)
        else:
            reward = stack.enter_context(make_reward())
            if tries is None:
                result = score_files(options, reward, spec=spec, progress=make_progress)
            else:
                result = retry_rows(options, tries, reward, spec=spec, progress=make_progress)
        if to_stdout:
            with options.out.open("rb") as rows:
                shutil.copyfileobj(rows, output.stdout.buffer)
    print_result(result, None if temporary else out)
    if found is not None:
        print_stability(found)
    if as_json:
        told_json = {"out": str(out), "reward_id": config.reward_id, **_json_summary(result)}
        click.echo(
            json.dumps(told_json if found is None else {**told_json, "repeat": found.data()}), file=output.stdout
        )
    if result.too_many_unscored:
        raise TooManyUnscoredError(result.too_many_unscored)
    if found is not None:
        check_stability(found, fail_above)


def _tell_scoring(of: int, number: int) -> None:
    click.echo(f"scoring {number} of {of}", err=True)


class _EchoHandler(logging.Handler):
    """Prints log records on standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(self.format(record), err=True)


@contextlib.contextmanager
def _shown_log() -> Iterator[None]:
    """Print what scoring logs at level INFO inside the block."""
    log = logging.getLogger("rewardkit.scoring")
    handler, level = _EchoHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def _json_summary(result: RunResult) -> dict[str, Any]:
    manifest = result.manifest
    counts = {name: manifest[name] for name in ("rows_read", "rows_written", "rows_rejected")}
    return {**counts, "already_complete": result.already_complete, **result.summary}


def print_result(result: RunResult, out: Path | None) -> None:
    """Print the summary of a run to standard error, in a table that fits 80 columns.

    Args:
        result: How it ended.
        out: The output; None if it will be gone before the user can read it.
    """
    from rich.console import Console
    from rich.markup import escape

    manifest, summary = result.manifest, result.summary
    console = Console(stderr=True, highlight=False, soft_wrap=False)
    console.print(_table(summary))
    for name, part in summary["components"].items():
        told = [f"{count:,} {kind}" for kind, count in sorted(part["unscored"].items())]
        if told:
            console.print(f"[yellow]{escape(name)} unscored:[/] {', '.join(told)}")
        if costs := part.get("costs"):
            console.print(f"[dim]{escape(name)} cost: {costs_text(costs)}[/]")
        if part["not_applicable"]:
            console.print(f"[dim]{escape(name)} not applicable: {part['not_applicable']:,}[/]")
        if part["skipped"]:
            console.print(f"[dim]{escape(name)} skipped: {part['skipped']:,}[/]")
    for reason, times in list(summary["unscored_reasons"].items())[:3]:
        console.print(f"[dim]  {times:,} × {escape(reason)}[/]")
    if out is not None and any(RETRYABLE & part["unscored"].keys() for part in summary["components"].values()):
        console.print(
            "[dim]To score only those rows again: the same command with --retry unscored:infra,timeout,plugin[/]"
        )
    if rejected := manifest["rows_rejected"]:
        console.print(f"[yellow]{_rows(rejected)} could not be read{_where_rejected(out)}[/]")
    if replaced := manifest["text_replaced_rows"]:
        console.print(f"[yellow]{_rows(replaced)} with lone surrogates, written as \ufffd; .jsonl would keep them[/]")
    if emptied := manifest["emptied_columns"]:
        console.print(f"[yellow]empty objects became null in {escape(', '.join(emptied))}; .jsonl would keep them[/]")
    if out is None:
        return
    done = "already complete: " if result.already_complete else ""
    where = "standard output" if str(out) == STDOUT else escape(str(out))
    console.print(f"{done}{_rows(manifest['rows_written'])} in {where}")


def costs_text(costs: Mapping[str, float]) -> str:
    """Return costs in words: sums by name."""
    return ", ".join(f"{name.replace('_', ' ')} {_amount(value)}" for name, value in costs.items())


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _where_rejected(out: Path | None) -> str:
    from rich.markup import escape

    return "" if out is None or str(out) == STDOUT else f": see {escape(str(out))}.rejected.jsonl"


def _table(summary: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

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
    table.caption = "same: share of groups whose rollouts all got the same value; unsc.: unscored rows"
    table.caption_justify = "left"
    return table


def _cells(part: dict[str, Any], unscored: int) -> list[str]:
    same = part.get("zero_std_groups")  # outputs of earlier versions have another name for it
    return [
        f"{part['n']:,}",
        _number(part["mean"]),
        _number(part["std"]),
        _number(part["min"]),
        ("" if part["median_exact"] else "≈") + _number(part["median"]),
        _number(part["max"]),
        "–" if same is None else ("" if part["zero_std_exact"] else "≈") + f"{same:.0%}",
        f"{unscored:,}",
        _time(part["seconds"]) if "seconds" in part else "",
    ]


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _number(value: float | None) -> str:
    """Format a number with three significant digits, or as a whole number if it is large."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f}s"
    return f"{seconds / 60:.0f}min" if seconds < 6000 else f"{seconds / 3600:.1f}h"
