"""Writes the HTML report of training runs: curves with alarms, time, rollouts, configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rewardkit.insight.svg_chart import COLOURS, Line, Mark, line_chart, rolling_mean
from rewardkit.train.monitoring.console import duration, shown
from rewardkit.train.monitoring.metric_descriptions import Description, describe, time_label
from rewardkit.train.reports.html import plain, write_page
from rewardkit.train.reports.reward_model_tables import sections
from rewardkit.train.reports.run_record import RunRecord, alarm_metrics

MOST_SAMPLES = 24
"""Largest number of rollouts shown of a run: half from its beginning, half from its end."""
FIRST = ("reward", "accuracy", "gold", "loss", "perplexity", "kl", "entropy", "length", "tokens_per_s")
"""Metrics whose curves are at the top."""
STAGE_SPECIFIC = frozenset({"loss", "accuracy"})
"""Metrics that mean something else in each stage, so that runs of different stages get separate charts."""
SMOOTHED_FROM = 40
"""Curves with fewer points are not smoothed."""


def write_report(folders: Sequence[Path], path: Path) -> Path:
    """Write the report of one or more runs. Several runs share the charts, each in its own colour.

    Args:
        folders: The runs' folders.
        path: The HTML file.

    Returns:
        ``path``.

    Raises:
        DataError: A folder does not hold a run, or a file in it can't be read.
        OutputError: The report can't be written.
    """
    runs = _named([RunRecord.read(folder) for folder in folders])
    return write_page(
        path,
        "run.html.j2",
        title=" · ".join(run.name for run in runs),
        summary=[_summary(run) for run in runs],
        alarms=[{**alarm, "run": run.name if len(runs) > 1 else None} for run in runs for alarm in run.alarms],
        colours=_colours(runs),
        groups=_groups(runs),
        reward_over_kl=_reward_over_kl(runs),
        evaluations=sections([(run.name, run.evaluation) for run in runs if run.evaluation is not None]),
        times=_times(runs),
        rollouts=[_rollouts(run, len(runs) > 1) for run in runs if run.samples],
        metrics=_descriptions(runs),
        configuration=_configuration(runs),
    )


def _named(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Number the runs whose folders have the same name."""
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.name} ({index + 1})") if names.count(run.name) > 1 else run
        for index, run in enumerate(runs)
    ]


def _summary(run: RunRecord) -> list[str]:
    """Return a run's row in the table at the top."""
    seconds = math.fsum(value for _, value in run.points("seconds", "train"))
    started = str(run.record.get("started", "")).replace("T", " ")[:16]
    facts = [run.name, run.stage, run.model, run.reward, started, run.status, headline(run), duration(seconds)]
    return [*facts, str(len(run.alarms))]


def headline(run: RunRecord) -> str:
    """Return the first and last value of the evaluation, or of the reward or loss if there is none."""
    for name in ("accuracy", "reward", "loss"):
        for kind in ("eval", "train"):
            if points := run.points(name, kind):
                return f"{'held-out ' if kind == 'eval' else ''}{name} {shown(points[0][1])} → {shown(points[-1][1])}"
    return "no metrics yet"


def _colours(runs: Sequence[RunRecord]) -> list[tuple[str, str, bool]]:
    """Return the legend of the charts: (name, colour, whether the line is dashed)."""
    is_evaluated = any(run.metrics.get("eval") for run in runs)
    if len(runs) == 1:
        return [("training", COLOURS[0], False), *([("held-out data", COLOURS[1], False)] if is_evaluated else [])]
    entries = [(run.name, _colour(index), False) for index, run in enumerate(runs)]
    return [*entries, *([("held-out data", "currentColor", True)] if is_evaluated else [])]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _groups(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the charts by heading: the important ones, the reward's components, and the rest, which is folded."""
    names = {name for run in runs for name in run.names}
    first = [name for name in FIRST if name in names]
    components = sorted(name for name in names if _is_main_component_metric(name))
    alarmed = {name for run in runs for alarm in run.alarms for name in alarm_metrics(alarm)}
    first += sorted((alarmed & names) - set(first))
    others = sorted(name for name in names - set(first) - set(components) if not name.startswith("seconds"))
    groups = (
        ("Training curves", first, True),
        ("Components of the reward", components, True),
        ("More metrics", others, False),
    )
    return [
        {"heading": heading, "charts": [chart for name in chosen for chart in _charts(name, runs)], "is_open": is_open}
        for heading, chosen, is_open in groups
        if chosen
    ]


def _is_main_component_metric(name: str) -> bool:
    """Return whether a metric is a component's mean, its share of the training signal, or its share of unscored rollouts."""
    _, *parts = name.split("/")
    return name.startswith("component/") and (len(parts) == 1 or parts[-1].startswith(("advantage_share", "unscored")))


def _charts(name: str, runs: Sequence[RunRecord]) -> list[Markup]:
    """Return one chart of a metric, or one for each stage if the metric means something else in each of them."""
    stages = list(dict.fromkeys(run.stage for run in runs if name in run.names))
    indexed = list(enumerate(runs))
    if name not in STAGE_SPECIFIC or len(stages) < 2:
        return [_chart(name, name.removeprefix("component/"), indexed)]
    return [
        _chart(name, f"{name} ({stage})", [(index, run) for index, run in indexed if run.stage == stage])
        for stage in stages
    ]


def _chart(name: str, title: str, runs: Sequence[tuple[int, RunRecord]]) -> Markup:
    """Return the chart of a metric, with the alarms of the runs."""
    lines: list[Line] = []
    marks: dict[float, Mark] = {}
    is_alone = len(runs) == 1 and runs[0][0] == 0
    for index, run in runs:
        lines += _lines(name, run, _colour(index), is_alone=is_alone)
        for alarm in run.alarms:
            text = f"step {alarm['step']}: {alarm['message']}"
            if name in alarm_metrics(alarm):
                marks[alarm["step"]] = Mark(alarm["step"], text, strong=True)
            elif alarm["step"] not in marks and is_alone:
                marks[alarm["step"]] = Mark(alarm["step"], text)
    found = describe(name) or Description("")
    return Markup(  # noqa: S704 - line_chart escapes its texts
        line_chart(title, lines, marks=list(marks.values()), note=found.unit, meaning=found.text, x_label="step")
    )


def _lines(name: str, run: RunRecord, colour: str, *, is_alone: bool) -> list[Line]:
    """Return the curves of one run: training, smoothed if it is long, and held-out data."""
    lines = []
    train, held_out = run.points(name, "train"), run.points(name, "eval")
    if len(train) >= SMOOTHED_FROM:
        lines.append(Line(f"{run.name}, each step", train, colour, faint=True))
        train = rolling_mean(train, len(train) // 20)
    if train:
        lines.append(Line(run.name, train, colour))
    if held_out:
        lines.append(
            Line(
                f"{run.name}, held-out data",
                held_out,
                COLOURS[1] if is_alone else colour,
                dashed=not is_alone,
                dots=len(held_out) < SMOOTHED_FROM,
            )
        )
    return lines


def _descriptions(runs: Sequence[RunRecord]) -> list[tuple[str, str, str]]:
    """Return (metric, description, unit) of every metric of the runs. All components share their rows."""
    rows: dict[str, tuple[str, str, str]] = {}
    for name in sorted({name for run in runs for name in run.names}):
        if (found := describe(name)) is not None:
            label = "/".join(["component", "…", *name.split("/")[2:]]) if name.startswith("component/") else name
            rows[label] = (label, found.text, found.unit)
    return list(rows.values())


def _reward_over_kl(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Return charts of the trained and the held-out reward over the KL divergence. Where they part, the reward is exploited.

    The picture is that of https://arxiv.org/abs/2210.10760.
    """
    charts = []
    for run in runs:
        kl = dict(run.points("kl", "train"))
        gold, reward = (
            [(kl.get(step, 0.0 if step == 0 else math.nan), value) for step, value in run.points(name, "eval")]
            for name in ("gold", "reward")
        )
        if kl and gold:
            lines = [
                Line("gold", sorted(gold), COLOURS[1], dots=True),
                Line("trained reward", sorted(reward), COLOURS[0], dots=True),
            ]
            charts.append(Markup(line_chart(run.name, lines, width=520, height=240, x_label="KL, nats")))  # noqa: S704
    if not charts:
        return None
    legend = [("trained reward", COLOURS[0], False), ("held-out (gold) reward", COLOURS[1], False)]
    return {"legend": legend, "charts": charts}


def _times(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return a stacked chart of the seconds of a step for each run that logged their parts."""
    found = []
    for run in runs:
        parts = [name for name in run.metrics.get("train", {}) if name.startswith("seconds_")]
        columns = [[value for _, value in run.points(name, "train")] for name in parts]
        whole = math.fsum(value for _, value in run.points("seconds", "train"))
        if not parts or not whole or len({len(column) for column in columns}) > 1:
            continue
        steps = [step for step, _ in run.points(parts[0], "train")]
        totals = list(accumulate(columns, lambda below, own: [a + b for a, b in zip(below, own, strict=True)]))
        floors = [[0.0] * len(steps), *totals]
        lines = [
            Line(
                time_label(name),
                list(zip(steps, tops, strict=True)),
                _colour(index),
                band=list(zip(steps, floor, tops, strict=True)),
            )
            for index, (name, floor, tops) in enumerate(zip(parts, floors, totals, strict=False))
        ]
        legend = [
            (f"{time_label(name)} {math.fsum(column) / whole:.0%}", _colour(index), False)
            for index, (name, column) in enumerate(zip(parts, columns, strict=True))
        ]
        chart = line_chart(f"{run.name}: seconds per step", lines, width=520, height=220, x_label="step")
        found.append({"legend": legend, "chart": Markup(chart)})  # noqa: S704
    return found


def _rollouts(run: RunRecord, is_one_of_many: bool) -> dict[str, Any]:
    """Return some of a run's first and last rollouts."""
    half = MOST_SAMPLES // 2
    is_short = len(run.samples) <= MOST_SAMPLES
    kept = run.samples if is_short else [*run.samples[:half], *run.samples[-half:]]
    rows = [
        {
            "step": item["step"],
            "prompt": item["prompt"],
            "completion": _message_text(item["completion"]),
            "reward": "unscored" if item["reward"] is None else shown(item["reward"]),
            "components": [
                (name, "–" if part["value"] is None else shown(part["value"]), part["reason"] or "")
                for name, part in item["components"].items()
            ],
        }
        for item in kept
    ]
    note = "" if is_short else f"The first and the last {half} of {len(run.samples):,} logged rollouts."
    return {"run": run.name if is_one_of_many else None, "note": note, "rows": rows}


def _message_text(completion: Any) -> Any:
    """Return the text of a completion that is a single message."""
    if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0].get("content"), str):
        return completion[0]["content"]
    return completion


def _configuration(runs: Sequence[RunRecord]) -> str | dict[str, Any]:
    """Return the whole configuration of a single run, or a table of what differs between several."""
    if len(runs) == 1:
        return json.dumps(runs[0].record, indent=2, ensure_ascii=False)
    flat = [_flat(run.record) for run in runs]
    names = list(dict.fromkeys(name for item in flat for name in item))
    rows = [
        [name, *(plain(item.get(name, "")) for item in flat)]
        for name in names
        if len({json.dumps(item.get(name)) for item in flat}) > 1
    ]
    return {"head": ["", *(run.name for run in runs)], "rows": rows}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping by dotted name."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    return {
        inner: part
        for key, item in value.items()
        for inner, part in _flat(item, f"{name}.{key}" if name else str(key)).items()
    }
