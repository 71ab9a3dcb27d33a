"""Runs as one HTML file that needs nothing else: curves with their alarms, where the time goes, rollouts, configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError, OutputError
from rewardkit.train.monitoring.console import duration, shown
from rewardkit.train.monitoring.metric_descriptions import Description, describe, part_of_time
from rewardkit.train.monitoring.monitors import FIGURES
from rewardkit.train.reports.html import key, page, table, text
from rewardkit.train.reports.reliability_diagram import reliability_svg
from rewardkit.train.reports.svg_chart import COLOURS, Line, Mark, Point, line_chart, rolling_mean
from rewardkit.train.run_folder import _lines

MOST_SAMPLES = 24
"""Rollouts of a run that are shown: half of them its first, half its last."""
FIRST = ("reward", "accuracy", "gold", "loss", "perplexity", "kl", "entropy", "length", "tokens_per_s")
"""Curves that stand at the top."""
LEFT_OUT = frozenset({"step", "kind", "tokens", "groups", "prompts_sampled"})
SMOOTHED_FROM = 40
"""Curves of fewer points are drawn as they are."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run's folder holds about how it went."""

    name: str
    record: Mapping[str, Any]
    """``config.json``."""
    figures: Mapping[str, Mapping[str, list[Point]]]
    """By kind (train, eval) and name: (step, value)."""
    alarms: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any] | None
    """``evaluation.json``, which a reward model has."""

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read a run's folder.

        Raises:
            DataError: It is none, or a file in it can't be read.
        """
        if not (folder / "config.json").is_file():
            raise DataError(f"{folder} is no folder of a training run: it has no config.json")
        figures: dict[str, dict[str, list[Point]]] = {"train": {}, "eval": {}}
        for line in _lines(folder / "metrics.jsonl"):
            for name, value in line.items():
                if name not in LEFT_OUT and isinstance(value, int | float):
                    figures.setdefault(line["kind"], {}).setdefault(name, []).append((line["step"], value))
        [record] = _lines(folder / "config.json", whole=True)
        return cls(
            folder.resolve().name,
            record,
            figures,
            _lines(folder / "alarms.jsonl"),
            _lines(folder / "samples.jsonl"),
            next(iter(_lines(folder / "evaluation.json", whole=True)), None),
        )

    @property
    def steps(self) -> int:
        """How many are done."""
        return int(max((points[-1][0] for of in self.figures.values() for points in of.values()), default=0))

    def points(self, name: str, kind: str) -> list[Point]:
        """One curve."""
        return self.figures.get(kind, {}).get(name, [])


def write_report(folders: Sequence[Path], path: Path) -> Path:
    """Draw runs, each in its own colour; of a single one rollouts and configuration, too.

    Args:
        folders: Of the runs.
        path: The HTML file.

    Raises:
        DataError: A folder is none of a run.
        OutputError: The file can't be written.
    """
    runs = _named([RunRecord.read(folder) for folder in folders])
    title = " · ".join(run.name for run in runs)
    parts = [f"<h1>{text(title)}</h1>", _summary(runs), *_alarms(runs), _key(runs)]
    for heading, names, is_open in _grouped(runs):
        charts = "".join(_figure(name, runs) for name in names)
        body = f'<div class="grid">{charts}</div>'
        parts.append(
            f"<h2>{heading}</h2>{body}"
            if is_open
            else f"<h2>{heading}</h2><details><summary>{len(names)} curves</summary>{body}</details>"
        )
    parts += [_over_kl(runs), _pairs(runs), _time(runs)]
    parts += [part for run in runs for part in _samples(run, len(runs) > 1)]
    parts += [_meanings(runs), _configuration(runs)]
    try:
        path.write_text(page(title, parts), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from None
    return path


def _named(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs in folders of the same name are told apart by number."""
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.name} ({index + 1})") if names.count(run.name) > 1 else run
        for index, run in enumerate(runs)
    ]


def _summary(runs: Sequence[RunRecord]) -> str:
    """A line for each run: how far it came, what it achieved."""
    rows = []
    for run in runs:
        seconds = math.fsum(value for _, value in run.points("seconds", "train"))
        rows.append(
            [
                text(run.name),
                text(run.record.get("config", {}).get("stage", "")),
                f"{run.steps:,}",
                text(headline(run)),
                duration(seconds),
                str(len(run.alarms)),
            ]
        )
    return table(["run", "stage", "steps", "first → last", "time in steps", "alarms"], rows, numbers=(2, 4, 5))


def headline(run: RunRecord) -> str:
    """First and last value of what is evaluated, or else of the reward or the loss."""
    for name in ("accuracy", "reward", "loss"):
        for kind in ("eval", "train"):
            if points := run.points(name, kind):
                return f"{'held-out ' if kind == 'eval' else ''}{name} {shown(points[0][1])} → {shown(points[-1][1])}"
    return "no figures yet"


def _alarms(runs: Sequence[RunRecord]) -> list[str]:
    return [
        f'<div class="alarm"><b>step {item["step"]}</b> {text(item["message"])}'
        + (f' <span class="dim">({text(run.name)})</span></div>' if len(runs) > 1 else "</div>")
        for run in runs
        for item in run.alarms
    ]


def _key(runs: Sequence[RunRecord]) -> str:
    is_evaluated = any(run.figures.get("eval") for run in runs)
    if len(runs) == 1:
        return key([("training", COLOURS[0], False), *([("held-out data", COLOURS[1], False)] if is_evaluated else [])])
    entries = [(run.name, _colour(index), False) for index, run in enumerate(runs)]
    return key([*entries, *([("held-out data", "currentColor", True)] if is_evaluated else [])])


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _grouped(runs: Sequence[RunRecord]) -> list[tuple[str, list[str], bool]]:
    """Curves by heading: what matters most, the components, all else; and whether they are shown at once."""
    names = {name for run in runs for of in run.figures.values() for name in of}
    first = [name for name in FIRST if name in names]
    components = sorted(name for name in names if _is_shown_component(name))
    alarmed = {name for run in runs for item in run.alarms for name in FIGURES.get(item["name"], ())}
    first += sorted((alarmed & names) - set(first))
    others = sorted(name for name in names - set(first) - set(components) if not name.startswith("seconds"))
    groups = [("Course", first, True), ("Components of the reward", components, True), ("More", others, False)]
    return [group for group in groups if group[1]]


def _is_shown_component(name: str) -> bool:
    """A component's mean, what it supplies of the advantage, what could not be scored; its other figures are further below."""
    _, *parts = name.split("/")
    return name.startswith("component/") and (len(parts) == 1 or parts[-1].startswith(("advantage_share", "unscored")))


def _figure(name: str, runs: Sequence[RunRecord]) -> str:
    lines: list[Line] = []
    marks: dict[float, Mark] = {}
    for index, run in enumerate(runs):
        train, held_out = run.points(name, "train"), run.points(name, "eval")
        colour = _colour(index)
        if len(train) >= SMOOTHED_FROM:
            lines.append(Line(f"{run.name}, each step", train, colour, faint=True))
            train = rolling_mean(train, len(train) // 20)
        if train:
            lines.append(Line(run.name, train, colour))
        if held_out:
            alone = len(runs) == 1
            lines.append(
                Line(
                    f"{run.name}, held-out data",
                    held_out,
                    COLOURS[1] if alone else colour,
                    dashed=not alone,
                    dots=len(held_out) < SMOOTHED_FROM,
                )
            )
        for item in run.alarms:
            if name in FIGURES.get(item["name"], ()):
                marks[item["step"]] = Mark(item["step"], f"step {item['step']}: {item['message']}", strong=True)
            elif item["step"] not in marks and len(runs) == 1:
                marks[item["step"]] = Mark(item["step"], f"step {item['step']}: {item['message']}")
    meaning = describe(name) or Description("")
    title = name.removeprefix("component/")
    return line_chart(title, lines, marks=list(marks.values()), note=meaning.unit, meaning=meaning.words)


def _meanings(runs: Sequence[RunRecord]) -> str:
    """In words, what was drawn; of all components together."""
    names = sorted({name for run in runs for of in run.figures.values() for name in of})
    rows: dict[str, list[str]] = {}
    for name in names:
        if (meaning := describe(name)) is not None:
            shown_as = "/".join(["component", "…", *name.split("/")[2:]]) if name.startswith("component/") else name
            rows[shown_as] = [text(shown_as), text(meaning.words), text(meaning.unit)]
    if not rows:
        return ""
    body = table(["figure", "meaning", "unit"], rows.values())
    return f"<h2>What the figures mean</h2><details><summary>show</summary>{body}</details>"


def _over_kl(runs: Sequence[RunRecord]) -> str:
    """What is trained on and what was meant, over the distance from the starting model: where they part, the reward is exploited.

    The picture of https://arxiv.org/abs/2210.10760.
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
            charts.append(line_chart(run.name, lines, width=520, height=240, note="over KL, nats"))
    if not charts:
        return ""
    legend = key([("trained reward", COLOURS[0], False), ("held-out (gold) reward", COLOURS[1], False)])
    return f'<h2>Rewards on held-out data over KL from the start</h2>{legend}<div class="grid">{"".join(charts)}</div>'


def _pairs(runs: Sequence[RunRecord]) -> str:
    """How good reward models are on held-out pairs, beside what length alone would achieve."""
    judged = [(run, run.evaluation) for run in runs if run.evaluation is not None]
    if not judged:
        return ""
    labels = {
        "accuracy": "prefers the preferred answer",
        "where_chosen_is_longer": "… where that is the longer one",
        "where_chosen_is_shorter": "… where that is the shorter one",
        "always_longer": "always the longer answer",
        "always_shorter": "always the shorter answer",
    }
    rows = [[label, *(_share(found[name]) for _, found in judged)] for name, label in labels.items()]
    for name, label in (
        ("calibration_error", "calibration error"),
        ("length_correlation", "correlation of score and length (Spearman)"),
        ("lead_length_correlation", "correlation of lead and difference in length"),
    ):
        rows.append([label, *("–" if found[name] is None else f"{found[name]:.3f}" for _, found in judged)])
    figures = table(["", *(run.name for run, _ in judged)], rows, numbers=range(1, len(judged) + 1))
    charts = "".join(reliability_svg(found) for _, found in judged)
    return f'<h2>Held-out pairs</h2>{figures}<br><div class="grid">{charts}</div>'


def _share(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    return "–" if value is None or low is None or high is None else f"{value:.1%} ({low:.1%}…{high:.1%})"


def _time(runs: Sequence[RunRecord]) -> str:
    """What a step's seconds go to, one upon the other."""
    charts = []
    for run in runs:
        parts = [name for name in run.figures.get("train", {}) if name.startswith("seconds_")]
        columns = [[value for _, value in run.points(name, "train")] for name in parts]
        whole = math.fsum(value for _, value in run.points("seconds", "train"))
        if not parts or not whole or len({len(column) for column in columns}) > 1:
            continue
        steps = [step for step, _ in run.points(parts[0], "train")]
        totals = list(accumulate(columns, lambda below, own: [a + b for a, b in zip(below, own, strict=True)]))
        floors = [[0.0] * len(steps), *totals]
        lines = [
            Line(
                part_of_time(name),
                list(zip(steps, tops, strict=True)),
                _colour(index),
                band=list(zip(steps, floor, tops, strict=True)),
            )
            for index, (name, floor, tops) in enumerate(zip(parts, floors, totals, strict=False))
        ]
        legend = key(
            (f"{part_of_time(name)} {math.fsum(column) / whole:.0%}", _colour(index), False)
            for index, (name, column) in enumerate(zip(parts, columns, strict=True))
        )
        charts.append(f"<div>{legend}{line_chart(f'{run.name}: seconds per step', lines, width=520, height=220)}</div>")
    return f'<h2>Time</h2><div class="grid">{"".join(charts)}</div>' if charts else ""


def _samples(run: RunRecord, is_one_of_many: bool) -> list[str]:
    """Some of the earliest and the latest rollouts."""
    if not run.samples:
        return []
    half = MOST_SAMPLES // 2
    kept = run.samples if len(run.samples) <= MOST_SAMPLES else [*run.samples[:half], *run.samples[-half:]]
    rows = []
    for item in kept:
        scores = "".join(
            f"<div><b>{text(name)}</b> {'–' if part['value'] is None else shown(part['value'])} "
            f'<span class="dim">{text(part["reason"] or "")}</span></div>'
            for name, part in item["components"].items()
        )
        reward = "unscored" if item["reward"] is None else shown(item["reward"])
        rows.append(
            f'<tr><td>{item["step"]}</td><td><pre class="tall">{text(item["prompt"])}</pre></td>'
            f'<td><pre class="tall">{text(_said(item["completion"]))}</pre></td><td>{reward}</td><td>{scores}</td></tr>'
        )
    widths = "".join(f'<col style="width:{share}%">' for share in (6, 26, 38, 8, 22))
    head = "<tr><th>step</th><th>prompt</th><th>completion</th><th>reward</th><th>components</th></tr>"
    body = f'<table class="wide"><colgroup>{widths}</colgroup>{head}{"".join(rows)}</table>'
    name = f" of {text(run.name)}" if is_one_of_many else ""
    few = len(kept) < len(run.samples)
    note = f'<p class="dim">the first and the last {half} of {len(run.samples):,} that were kept</p>' if few else ""
    return [
        f"<h2>Rollouts{name}</h2>",
        f"<details><summary>show</summary>{body}</details>" if is_one_of_many else note + body,
    ]


def _said(completion: Any) -> Any:
    """The text of a completion that is one message."""
    if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0].get("content"), str):
        return completion[0]["content"]
    return completion


def _configuration(runs: Sequence[RunRecord]) -> str:
    """Everything of a single run; what differs between several."""
    if len(runs) == 1:
        words = text(json.dumps(runs[0].record, indent=2, ensure_ascii=False))
        return f"<h2>Configuration, versions, data</h2><details><summary>show</summary><pre>{words}</pre></details>"
    flat = [_flat(run.record) for run in runs]
    names = list(dict.fromkeys(name for item in flat for name in item))
    rows = [
        [text(name), *(text(item.get(name, "")) for item in flat)]
        for name in names
        if len({json.dumps(item.get(name)) for item in flat}) > 1
    ]
    return f"<h2>What differs in configuration, versions, data</h2>{table(['', *(c.name for c in runs)], rows)}"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted name."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    return {
        inner: part
        for key_, item in value.items()
        for inner, part in _flat(item, f"{name}.{key_}" if name else str(key_)).items()
    }
