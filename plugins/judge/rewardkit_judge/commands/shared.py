"""Options and output that ``revise``, ``prefer`` and ``calibrate`` share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from rewardkit.errors import TooManyUnscoredError
from rewardkit.toolkit import FiniteRange, Transform, TransformResult, run_transform
from rewardkit_judge.judge import Judge
from rewardkit_judge.kept_replies import KeptReplies
from rewardkit_judge.options import KEY, Options

F = TypeVar("F", bound=Callable[..., Any])

_JUDGE = [
    click.option("--model", required=True, help="The model's name at the endpoint."),
    click.option(
        "--url", required=True, help="The address of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1."
    ),
    click.option("--temperature", default=0.0, show_default=True, type=FiniteRange(min=0)),
    click.option("--max-tokens", default=1024, show_default=True, type=click.IntRange(1), help="The most of a reply."),
    click.option(
        "--concurrency", default=32, show_default=True, type=click.IntRange(1), help="The most calls at once."
    ),
    click.option("--tries", default=5, show_default=True, type=click.IntRange(1), help="Attempts per call."),
    click.option(
        "--request-timeout",
        default=120.0,
        show_default=True,
        type=FiniteRange(min=0, min_open=True),
        help="Seconds that one attempt may take.",
    ),
    click.option(
        "--api-key", default=KEY, show_default=True, metavar="NAME", help="The environment variable with the key."
    ),
    click.option("--version", "version", default="", help="Names the weights behind the model's name."),
    click.option(
        "--price-prompt",
        default=0.0,
        type=FiniteRange(min=0),
        help="Price of a million tokens of questions, for the costs.",
    ),
    click.option(
        "--price-completion", default=0.0, type=FiniteRange(min=0), help="Price of a million tokens of replies."
    ),
    click.option("--no-preflight", is_flag=True, help="Do not ask the endpoint whether it knows the model."),
]
_NAMES = ("model", "url", "temperature", "max_tokens", "concurrency", "tries", "request_timeout", "api_key", "version")


def output_options(abort_above: float = 0.1) -> Callable[[F], F]:
    """Return a decorator that adds the options of a job that reads rows and keeps what is done.

    Args:
        abort_above: The share of rows that may fail unless another is given.
    """
    options = [
        click.option(
            "--out",
            "-o",
            required=True,
            type=click.Path(path_type=Path),
            help="The output: .jsonl, .jsonl.gz, .jsonl.zst, .jsonl.bz2, .parquet or .hf.",
        ),
        click.option(
            "--map", "maps", multiple=True, metavar="NEW=OLD", help="Read column OLD as NEW, as in `rewardkit score`."
        ),
        click.option("--parse", multiple=True, metavar="COL,…", help="Columns whose text is JSON to be read."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N rows."),
        click.option("--fresh", is_flag=True, help="Discard the output of an earlier run."),
        click.option(
            "--retry",
            metavar="unscored[:KIND,…]",
            help="Try the failed rows of a finished output again, and keep all others. KIND is infra, timeout or input.",
        ),
        click.option(
            "--abort-above",
            default=abort_above,
            show_default=True,
            type=FiniteRange(0, 1),
            help="The share of rows that may fail.",
        ),
        click.option("--json", "as_json_text", is_flag=True, help="Print the summary as JSON on standard output."),
    ]

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def job_options(command: F) -> F:
    """Add the options of a job that asks a model about the rows of files."""
    command = output_options()(command)
    for option in reversed(_JUDGE):
        command = option(command)
    return command


def options_of(given: Mapping[str, Any], **more: Any) -> Options:
    """Return the judge's options of a command line.

    Args:
        given: The values of `job_options`.
        more: Further options of the judge.
    """
    prices: dict[Literal["prompt", "completion"], float] = {
        "prompt": given["price_prompt"],
        "completion": given["price_completion"],
    }
    return Options(
        **{name: given[name] for name in _NAMES},
        prices={name: value for name, value in prices.items() if value},
        preflight=not given["no_preflight"],
        **more,
    )


def run_job(
    files: tuple[str, ...],
    given: Mapping[str, Any],
    transform: Transform,
    judge: Judge,
    identity: Mapping[str, Any],
    what: str,
) -> None:
    """Run a job and print its summary.

    Args:
        files: The input.
        given: The values of `job_options`.
        transform: Makes the rows.
        judge: Whom it asks.
        identity: What decides the rows beside the input.
        what: The new rows in words.

    Raises:
        UsageError: The endpoint can't be used, or the output is another job's.
        TooManyUnscoredError: Too many rows failed.
    """
    out: Path = given["out"]
    names = ("out", "maps", "parse", "limit", "fresh", "retry", "abort_above")
    settings = {name: given[name] for name in names}
    with keeping_replies(judge, out, fresh=given["fresh"]):
        result = run_transform(files, transform, identity=identity, preflight=judge.problem, **settings)
    tell(result, transform.name, out, what)
    if given["as_json_text"]:
        counts = {name: result.manifest[name] for name in ("rows_read", "rows_written", "rows_rejected")}
        summary = result.manifest["summary"]
        told = {
            "out": str(out),
            **counts,
            "already_complete": result.already_complete,
            "failed": summary["reward"]["unscored"],
            "failures": summary["unscored_reasons"],
            "costs": summary["components"][transform.name].get("costs", {}),
        }
        click.echo(json.dumps(told))
    if result.too_many_unscored:
        raise TooManyUnscoredError(result.too_many_unscored)


@contextlib.contextmanager
def keeping_replies(judge: Judge, out: Path, *, fresh: bool) -> Iterator[None]:
    """Keep what a judge replies beside the output, until the block comes to its end without an exception.

    Args:
        judge: The judge.
        out: The output.
        fresh: Forget what an earlier run kept.
    """
    kept = judge.kept = KeptReplies(out, fresh=fresh)
    try:
        yield
    except BaseException:
        kept.close()
        raise
    kept.remove()


def tell(result: TransformResult, name: str, out: Path, what: str) -> None:
    """Print on standard error what a job has done, what it cost, and what failed.

    Args:
        result: How it ended.
        name: The name of the transform.
        out: The output.
        what: The new rows in words.
    """
    manifest, summary = result.manifest, result.manifest["summary"]
    done = "already complete: " if result.already_complete else ""
    click.echo(f"{done}{manifest['rows_written']:,} {what} of {manifest['rows_read']:,} rows in {out}", err=True)
    if costs := summary["components"][name].get("costs"):
        click.echo(f"cost: {costs_text(costs)}", err=True)
    if failed := summary["reward"]["unscored"]:
        click.echo(f"{failed:,} rows failed: see {out}.rejected.jsonl; --retry unscored tries them again", err=True)
    if bad := manifest["rows_rejected"] - failed:
        click.echo(f"{bad:,} rows could not be used: see {out}.rejected.jsonl", err=True)
    for reason, times in list(summary["unscored_reasons"].items())[:3]:
        click.echo(f"  {times:,} × {reason}", err=True)


def costs_text(costs: Mapping[str, float]) -> str:
    """Return costs in words: sums by name."""

    def amount(value: float) -> str:
        return f"{value:,.6g}" if value % 1 else f"{value:,.0f}"

    return ", ".join(
        f"{name.removeprefix('judge_').replace('_', ' ')} {amount(value)}" for name, value in costs.items()
    )
