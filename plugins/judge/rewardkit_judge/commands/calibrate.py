"""``rewardkit judge calibrate``: measures a judge against labels."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rewardkit import Rollout, Score, Unscored
from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.scoring.columns.columns import Columns
from rewardkit_judge.calibration import Calibration, JudgedPair, JudgedRow, calibrate_pairs, calibrate_rows
from rewardkit_judge.commands.calibration_report import as_json, print_table, write_page
from rewardkit_judge.commands.judges import NamedJudge, find_judge, require_endpoint, rollouts_of, rows_of
from rewardkit_judge.judge import NoVerdictError, watching
from rewardkit_judge.rewards import Pairwise

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False}


@click.command("calibrate")
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", required=True, help="Rollouts, as `rewardkit score` takes them; pairs for judge.pairwise.")
@click.option(
    "--labels", help="A file with the labels, one row for each row of the data.  [default: a column of the data]"
)
@click.option("--label-column", default="label", show_default=True, help="The column of the labels.")
@click.option("--key", help="A column of both files by which rows belong together.  [default: the order of rows]")
@click.option("--label-threshold", type=float, help="Labels are numbers, and true above this one.")
@click.option("--threshold", default=0.5, show_default=True, help="The judge accepts a row if its value exceeds this.")
@click.option("--component", help="The judge, if CONFIG has several.")
@click.option(
    "--map", "maps", multiple=True, metavar="NEW=OLD", help="Read column OLD as NEW, as in `rewardkit score`."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N rows.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the reliability plot."
)
@click.option("--json", "as_data", is_flag=True, help="Print everything as JSON.")
def command(
    config: Path,
    data: str,
    labels: str | None,
    label_column: str,
    key: str | None,
    label_threshold: float | None,
    threshold: float,
    component: str | None,
    maps: tuple[str, ...],
    limit: int | None,
    page: Path | None,
    as_data: bool,
) -> None:
    """Measure how far the judge of the reward file CONFIG can be trusted, against labels.

    Labels are true or false (1 or 0). For judge.pairwise, a row of the data has prompt, chosen and rejected; with --labels the label says
    whether chosen is the better one. Every rate has a 95 % interval. Rows without a verdict are counted apart, never as a verdict.

    Exits with 3 if no row got a score.
    """
    judge = find_judge(config, component)
    columns = Columns.parse(maps, (), ())
    given = None if labels is None else rows_of(labels)
    pairwise = judge.reward if isinstance(judge.reward, Pairwise) else None
    if pairwise is not None:
        rows = [(place, columns.rename(row)) for place, row in rows_of(data)][:limit]
        truth = _labels(rows, given, label_column, key, label_threshold, default=True)
        require_endpoint(judge)
        found = calibrate_pairs(asyncio.run(_judge_pairs(pairwise, rows, truth)))
    else:
        rollouts = rollouts_of([data], columns)[:limit]
        rows = [(f"{data}: row {number}", rollout.to_row()) for number, rollout in enumerate(rollouts, 1)]
        truth = _labels(rows, given, label_column, key, label_threshold, default=None)
        require_endpoint(judge)
        found = calibrate_rows(asyncio.run(_judge_rows(judge, rollouts, truth)), threshold)
    costs = judge.reward.costs()
    if as_data:
        click.echo(json.dumps(as_json(found, costs), indent=2))
    else:
        print_table(found, costs)
    if page is not None:
        write_page(page, found, costs, title=f"{config}: {judge.name}", data=data)
        click.echo(str(page), err=True)
    _refuse_nothing(found)


def _refuse_nothing(found: Calibration) -> None:
    if found.errors.unscored.count == found.rows:
        raise TooManyUnscoredError(
            "no row got a score; `rewardkit judge try CONFIG FILE:1` shows what the judge is asked and says"
        )


async def _judge_rows(judge: NamedJudge, rollouts: Sequence[Rollout], truth: Sequence[bool]) -> list[JudgedRow]:
    async def one(number: int, rollout: Rollout, label: bool) -> JudgedRow:
        with watching() as watch:
            [result] = await judge.reward([rollout])  # type: ignore[operator]  # every judge is called with rollouts
        value = result.value if isinstance(result, Score) else None
        if isinstance(result, Unscored):
            click.echo(f"row {number} is unscored ({result.kind}): {result.message}", err=True)
        votes = watch.votes[0] if watch.votes else ()
        return JudgedRow(number, label, value, len(rollout.completion_text), votes)

    try:
        many = (one(index, *pair) for index, pair in enumerate(zip(rollouts, truth, strict=True), 1))
        return list(await asyncio.gather(*many))
    finally:
        await judge.reward.close()


async def _judge_pairs(
    pairwise: Pairwise, rows: Sequence[tuple[str, dict[str, Any]]], truth: Sequence[bool]
) -> list[JudgedPair]:
    pairs = [_pair(place, row) for place, row in rows]

    async def one(number: int, pair: tuple[str, str, str], label: bool) -> JudgedPair:
        question, first, second = pair
        if _is_swapped(pair):
            first, second, label = second, first, not label
        lengths = len(first), len(second)
        with watching() as watch:
            try:
                found = await pairwise.compare(question, first, second)
            except NoVerdictError as error:
                click.echo(f"row {number} has no verdict: {error}", err=True)
                return JudgedPair(number, label, None, None, lengths)
        return JudgedPair(number, label, found.forward, found.backward, lengths, tuple(watch.votes))

    try:
        many = (one(index, *pair) for index, pair in enumerate(zip(pairs, truth, strict=True), 1))
        return list(await asyncio.gather(*many))
    finally:
        await pairwise.close()


def _is_swapped(pair: tuple[str, str, str]) -> bool:
    """Return whether the rejected response counts as the first one: for half of the pairs, so that labels are not all the same."""
    return bool(hashlib.blake2b("\0".join(pair).encode("utf-8", "surrogatepass")).digest()[0] & 1)


def _pair(place: str, row: dict[str, Any]) -> tuple[str, str, str]:
    """Return the prompt and both responses of a row as text. Raises DataError if it has none."""
    found = []
    for name in ("chosen", "rejected"):
        try:
            rollout = Rollout.from_row({"prompt": row.get("prompt"), "completion": row.get(name)})
        except (ValueError, TypeError):
            raise DataError(
                f"{place}: a pair has the columns prompt, chosen and rejected, each text or chat messages; "
                f"columns are {', '.join(row)}"
            ) from None
        found.append(rollout)
    return found[0].prompt_text, found[0].completion_text, found[1].completion_text


def _labels(
    rows: Sequence[tuple[str, dict[str, Any]]],
    given: Sequence[tuple[str, dict[str, Any]]] | None,
    column: str,
    key: str | None,
    threshold: float | None,
    *,
    default: bool | None,
) -> list[bool]:
    """Return the label of each row.

    Args:
        rows: The data.
        given: The rows of the file of labels; None if the labels are a column of the data.
        column: The column of the labels.
        key: The column by which rows belong together; None for their order.
        threshold: Labels are numbers, true above this; None for true and false.
        default: The label of rows without one; None if every row needs one.

    Raises:
        UsageError: The files do not fit together.
        DataError: A label is missing or can't be read.
    """
    if not rows:
        raise DataError("there are no rows to judge")
    if given is None:
        return [_label(place, row, column, threshold, default) for place, row in rows]
    if key is None:
        if len(given) < len(rows):
            raise UsageError(
                f"there are {len(given):,} labels for {len(rows):,} rows; name a column of both files with --key"
            )
        return [_label(place, row, column, threshold, None) for (place, row), _ in zip(given, rows, strict=False)]
    known = {json.dumps(row.get(key)): (place, row) for place, row in given}
    found = []
    for place, row in rows:
        if key not in row:
            raise DataError(f"{place} has no column {key!r}, which --key names; columns are {', '.join(row)}")
        if (label := known.get(json.dumps(row[key]))) is None:
            raise DataError(f"{place}: no row of the labels has {key} = {row[key]!r}")
        found.append(_label(*label, column, threshold, None))
    return found


def _label(place: str, row: dict[str, Any], column: str, threshold: float | None, default: bool | None) -> bool:
    if column not in row:
        if default is not None:
            return default
        raise DataError(
            f"{place} has no column {column!r}; name the column of the labels with --label-column, or their file with "
            f"--labels. Columns are {', '.join(row)}"
        )
    value = row[column]
    if threshold is not None:
        try:
            return float(value) > threshold
        except (TypeError, ValueError):
            raise DataError(f"{place}: the label {value!r} is no number") from None
    verdict = _TRUTH.get(str(value).strip().lower())
    if verdict is None:
        raise DataError(f"{place}: the label {value!r} is not true, false, 1 or 0; for numbers, give --label-threshold")
    return verdict
