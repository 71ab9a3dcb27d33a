"""A run as one HTML file that needs nothing else: curves, alarms, rollouts with their scores, and the configuration."""

from __future__ import annotations

import html
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from rewardkit.train.view import shown

WIDTH, HEIGHT = 320, 130
MARGIN = 42
MOST_POINTS = 400
"""A longer curve is thinned out, so that the file stays small."""
MOST_SAMPLES = 40
FIRST = ("reward", "accuracy", "gold", "loss", "kl", "entropy", "length")
"""Curves that stand at the top."""
LEFT_OUT = frozenset({"step", "kind", "tokens", "groups", "prompts_sampled"})

_STYLE = """
body{font:14px system-ui,sans-serif;margin:2rem auto;max-width:1080px;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}.grid{display:flex;flex-wrap:wrap;gap:14px}
figure{margin:0}figcaption{font-size:12px;color:#57606a}svg{background:#f6f8fa;border-radius:6px}
.alarm{background:#fff4e5;border-left:4px solid #d9822b;padding:.4rem .8rem;margin:.3rem 0}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #d8dee4;padding:.35rem;text-align:left;vertical-align:top}
pre{white-space:pre-wrap;word-break:break-word;margin:0;font-size:12px}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}svg{background:#161b22}.alarm{background:#2d1f0b}
td,th{border-color:#30363d}figcaption{color:#8b949e}}
"""


def write_report(folder: Path) -> Path:
    """Make ``report.html`` of what a run's folder holds.

    Raises:
        OSError: It can't be written.
    """
    record = _json(folder / "config.json")
    curves = _curves(_lines(folder / "metrics.jsonl"))
    alarms = _lines(folder / "alarms.jsonl")
    samples = _lines(folder / "samples.jsonl")
    stage = record.get("config", {}).get("stage", "run")
    parts = [
        f"<h1>{_text(stage)}: {_text(folder.name)}</h1>",
        f"<p>{_text(_headline(curves))}</p>",
        *(f'<div class="alarm">step {item["step"]}: {_text(item["message"])}</div>' for item in alarms),
    ]
    groups = _grouped(curves)
    for title, names in groups.items():
        figures = "".join(_figure(name, curves[name]) for name in names)
        parts.append(f'<h2>{_text(title)}</h2><div class="grid">{figures}</div>')
    if samples:
        parts.append(f"<h2>rollouts</h2>{_samples(samples)}")
    parts.append(
        "<h2>configuration, versions, data</h2><details><summary>show</summary>"
        f"<pre>{_text(json.dumps(record, indent=2, ensure_ascii=False))}</pre></details>"
    )
    path = folder / "report.html"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(stage)} {_text(folder.name)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n",
        encoding="utf-8",
    )
    return path


Curve = dict[str, list[tuple[float, float]]]
"""Points (step, value) of one figure by kind: train and eval."""


def _curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    found: dict[str, Curve] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for name, value in line.items():
            if name not in LEFT_OUT and isinstance(value, int | float) and math.isfinite(value):
                found[name][str(line["kind"])].append((float(line["step"]), float(value)))
    return found


def _grouped(curves: Mapping[str, Curve]) -> dict[str, list[str]]:
    """Curves by heading: what matters most, the components, all else."""
    first = [name for name in FIRST if name in curves]
    components = sorted(name for name in curves if name.startswith("component/"))
    others = sorted(set(curves) - set(first) - set(components))
    groups = {"course": first, "components of the reward": components, "more figures": others}
    return {title: names for title, names in groups.items() if names}


def _headline(curves: Mapping[str, Curve]) -> str:
    """First and last value of what is evaluated, or else of the reward or the loss."""
    for name in ("accuracy", "reward", "loss"):
        for kind in ("eval", "train"):
            points = curves.get(name, {}).get(kind, [])
            if points:
                steps = f"step {points[0][0]:.0f} to {points[-1][0]:.0f}"
                return f"{kind} {name}: {shown(points[0][1])} → {shown(points[-1][1])} ({steps})"
    return "no figures yet"


def _figure(name: str, curve: Curve) -> str:
    every = [point for points in curve.values() for point in points]
    steps, values = [x for x, _ in every], [y for _, y in every]
    left, right, low, high = min(steps), max(steps), min(values), max(values)

    def place(x: float, y: float) -> str:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return f"{MARGIN + across * (WIDTH - MARGIN - 8):.1f},{HEIGHT - 18 - up * (HEIGHT - 28):.1f}"

    lines = []
    for kind, points in curve.items():
        every_nth = max(1, math.ceil(len(points) / MOST_POINTS))
        kept = [*points[::every_nth], points[-1]]
        colour = "#d9822b" if kind == "eval" else "#2f81f7"
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(place(x, y) for x, y in kept)}">'
            f"<title>{_text(kind)}</title></polyline>"
        )
        if len(points) == 1:
            x, y = place(*points[0]).split(",")
            lines.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
    words = 'font-size="10" fill="#8b949e"'
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{_text(name)}">'
        f'<text x="4" y="14" {words}>{shown(high)}</text><text x="4" y="{HEIGHT - 18}" {words}>{shown(low)}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 4}" {words}>{left:.0f}</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 4}" text-anchor="end" {words}>{right:.0f}</text>{"".join(lines)}</svg>'
        f"<figcaption>{_text(name)}: {shown(next(reversed(next(iter(curve.values()))))[1])}</figcaption></figure>"
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    """Some of the earliest and the latest."""
    half = MOST_SAMPLES // 2
    kept = samples if len(samples) <= MOST_SAMPLES else [*samples[:half], *samples[-half:]]
    rows = []
    for item in kept:
        scores = "".join(
            f"<div><b>{_text(name)}</b> {'–' if part['value'] is None else shown(part['value'])} {_text(part['reason'] or '')}</div>"
            for name, part in item["components"].items()
        )
        reward = "unscored" if item["reward"] is None else shown(item["reward"])
        rows.append(
            f"<tr><td>{item['step']}</td><td><pre>{_text(item['prompt'])}</pre></td><td><pre>{_text(item['completion'])}</pre></td>"
            f"<td>{reward}</td><td>{scores}</td></tr>"
        )
    head = "<tr><th>step</th><th>prompt</th><th>completion</th><th>reward</th><th>components</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _text(value: Any) -> str:
    """Anything as HTML text; a completion may hold whatever a model writes."""
    return html.escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _lines(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.is_file() else []


def _json(file: Path) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(file.read_bytes()) if file.is_file() else {}
    return data
