"""``rewardkit judge calibrate``: measures a judge against labels."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import click

from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.toolkit import FiniteRange, Row, RowError, Transform, check_page, read_rows, run_transform
from rewardkit_judge.calibration import Calibration, calibrate_pairs, calibrate_rows
from rewardkit_judge.commands.calibration_report import as_json, print_table, write_page
from rewardkit_judge.commands.judges import find_judge, rollout_of
from rewardkit_judge.commands.labels import labels_of
from rewardkit_judge.commands.shared import keeping_replies, output_options, tell
from rewardkit_judge.rewards import Pairwise
from rewardkit_judge.verdicts import (
    PairVerdicts,
    RowVerdicts,
    judged_pair,
    judged_row,
    refuse_verdicts,
    texts_of,
    verdicts_identity,
)

_SOURCE = "source_row"
"""The column that names the row which a verdict is about."""


@click.command("calibrate")
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--data",
    required=True,
    help="Rollouts, as `rewardkit score` takes them, with one completion each; pairs for judge.pairwise.",
)
@click.option(
    "--labels", help="A file with the labels, one row for each row of the data.  [default: a column of the data]"
)
@click.option("--label-column", default="label", show_default=True, help="The column of the labels.")
@click.option("--key", help="A column of both files by which rows belong together.  [default: the order of rows]")
@click.option("--label-threshold", type=FiniteRange(), help="Labels are numbers, and true above this one.")
@click.option(
    "--threshold",
    type=FiniteRange(),
    default=0.5,
    show_default=True,
    help="The judge accepts a row if its value exceeds this.",
)
@click.option("--component", help="The judge, if CONFIG has several.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the reliability plot."
)
@output_options(abort_above=1.0)
def command(
    config: Path,
    data: str,
    labels: str | None,
    label_column: str,
    key: str | None,
    label_threshold: float | None,
    threshold: float,
    component: str | None,
    page: Path | None,
    as_json_text: bool,
    **given: Any,
) -> None:
    """Measure how far the judge of the reward file CONFIG can be trusted, against labels.

    Labels are true or false (1 or 0). For judge.pairwise, a row of the data has prompt, chosen and rejected; with --labels the label says
    whether chosen is the better one. Every rate has a 95 % interval. Rows without a verdict are counted apart, never as a verdict.

    OUT has the rows with the judge's verdicts. If a run is interrupted, the same command resumes it; once OUT is complete, other labels
    or another threshold are measured without a call. Rows without a verdict are listed in OUT.rejected.jsonl.

    Exits with 3 if no row got a score.
    """
    check_page("--html", page, [config, data, *([] if labels is None else [labels]), given["out"]])
    judge = find_judge(config, component)
    if data == "-" or Path(data).is_fifo():
        raise UsageError("--data must be a file: a stream can't be read again when the run is resumed")
    reward, out = judge.reward, given["out"]
    pairwise = reward if isinstance(reward, Pairwise) else None
    named = read_rows([data], maps=given["maps"], parse=given["parse"])
    rows = list(itertools.islice(named, given["limit"]))
    for place, row in rows:
        _check(place, row, is_pair=pairwise is not None)
    wanted = None if labels is None else list(read_rows([labels]))
    truth = labels_of(
        rows,
        wanted,
        label_column,
        key,
        label_threshold,
        default=None if pairwise is None else True,
        is_limited=given["limit"] is not None,
    )
    transform: Transform = RowVerdicts(reward) if pairwise is None else PairVerdicts(pairwise)
    identity = verdicts_identity(judge.use, reward, judge.settings)
    with keeping_replies(reward.judge, out, fresh=given["fresh"]):
        result = run_transform([data], transform, identity=identity, preflight=reward.preflight, **given)
    tell(result, transform.name, out, "verdicts")
    known = _verdicts(out)
    judged = list(zip(itertools.count(1), truth, (row for _, row in rows), (known.get(place) for place, _ in rows)))
    if pairwise is None:
        found = calibrate_rows([judged_row(*each) for each in judged], threshold)
    else:
        found = calibrate_pairs([judged_pair(*each) for each in judged])
    costs = result.manifest["summary"]["components"][transform.name].get("costs", {})
    if as_json_text:
        told = {"out": str(out), "already_complete": result.already_complete, **as_json(found, costs)}
        click.echo(json.dumps(told, indent=2))
    else:
        print_table(found, costs)
    if page is not None:
        write_page(page, found, costs, title=f"{config}: {judge.name}", data=data)
        click.echo(str(page), err=True)
    _refuse_nothing(found)
    if result.too_many_unscored:
        raise TooManyUnscoredError(result.too_many_unscored)


def _check(place: str, row: Row, *, is_pair: bool) -> None:
    """Raise DataError if a row can't be judged, before anything is asked."""
    try:
        refuse_verdicts(row)
        if is_pair:
            texts_of(row)
    except RowError as error:
        raise DataError(f"{place}: {error}") from None
    if not is_pair:
        rollout_of(place, row)


def _verdicts(out: Path) -> dict[str, Row]:
    """Return the rows of a finished output, by the place of the row that they are about."""
    return {str(row[_SOURCE]): row for _, row in read_rows([str(out)])} if out.stat().st_size else {}


def _refuse_nothing(found: Calibration) -> None:
    if found.errors.unscored.count == found.rows:
        raise TooManyUnscoredError(
            "no row got a score; `rewardkit judge try CONFIG FILE:1` shows what the judge is asked and says"
        )
