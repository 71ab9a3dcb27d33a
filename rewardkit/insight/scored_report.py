"""A scored file as one HTML page: distributions, training signal, disagreements, and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from rewardkit.files import write_page
from rewardkit.insight.difference import TOLERANCE
from rewardkit.insight.difference_report import number, text_of
from rewardkit.insight.extraction import marked_messages
from rewardkit.insight.failing_test import failing_test
from rewardkit.insight.scored_file import ScoredFile, read_rows, read_scored_file
from rewardkit.insight.scored_statistics import ScoredStatistics, statistics_of
from rewardkit.scoring.resume.journal import OutputPaths

EXAMPLES = 5


def write_scored_report(path: Path, out: Path) -> ScoredStatistics:
    """Write the page of a scored file. It needs no network and no scripts.

    Args:
        path: A file that ``rewardkit score`` wrote.
        out: The page.

    Returns:
        The statistics that it shows.

    Raises:
        DataError: The file can't be read.
        OutputError: The page can't be written.
    """
    file = read_scored_file(path, details=True)
    statistics = statistics_of(file)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rewardkit.insight"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("scored.html.jinja").render(
        path=path,
        reward_id=file.reward_id,
        statistics=statistics,
        length_unit=file.length_unit,
        names=[series.name for series in statistics.series] + ["length"],
        shares=[
            series for series in statistics.series if series.name != "reward" and series.variance_share is not None
        ],
        unscored=_unscored(statistics),
        written=datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        sections=_sections(file, statistics),
        costs=_costs(path),
    )
    write_page(out, page)
    return statistics


def _unscored(statistics: ScoredStatistics) -> list[tuple[str, str, int, float]]:
    """Return (component, status, rows, share of all rows) of what has no value, the most frequent first."""
    found = [
        (series.name, status, count, count / statistics.rows)
        for series in statistics.series
        for status, count in series.statuses.items()
        if status != "scored"
    ]
    reward = next(series for series in statistics.series if series.name == "reward")
    if reward.scored < statistics.rows and not reward.statuses:
        missing = statistics.rows - reward.scored
        found.append(("reward", "unscored", missing, missing / statistics.rows))
    return sorted(found, key=lambda item: -item[2])


def _flat_examples(file: ScoredFile) -> dict[int, str]:
    """Return the first row of some flat groups, with what all their rollouts got; middling rewards first, since they say most."""
    size = int(file.groups_N.max()) + 1
    low_G, high_G = np.full(size, np.inf), np.full(size, -np.inf)
    count_G, first_G = np.zeros(size, dtype=np.int64), np.full(size, len(file.groups_N), dtype=np.int64)
    present_N = ~np.isnan(file.rewards_N)
    np.minimum.at(low_G, file.groups_N[present_N], file.rewards_N[present_N])
    np.maximum.at(high_G, file.groups_N[present_N], file.rewards_N[present_N])
    np.add.at(count_G, file.groups_N[present_N], 1)
    np.minimum.at(first_G, file.groups_N[present_N], np.flatnonzero(present_N))
    flat_G = (count_G >= 2) & (high_G - low_G <= TOLERANCE)
    if not flat_G.any():
        return {}
    best, worst = np.nanmax(file.rewards_N), np.nanmin(file.rewards_N)
    groups = sorted(map(int, np.flatnonzero(flat_G)), key=lambda group: low_G[group] in {best, worst})
    return {
        int(first_G[group]): f"all {count_G[group]} rollouts of the prompt have reward {number(float(low_G[group]))}"
        for group in groups[:EXAMPLES]
    }


def _costs(path: Path) -> dict[str, str]:
    """Return what the calls of each component have cost, in words, as the file's manifest tells; nothing where there is none."""
    try:
        components = json.loads(OutputPaths(path).manifest.read_bytes())["summary"]["components"]
        return {
            name: ", ".join(f"{what.replace('_', ' ')} {value:,.6g}" for what, value in part["costs"].items())
            for name, part in components.items()
            if part.get("costs")
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _sections(file: ScoredFile, statistics: ScoredStatistics) -> list[dict[str, Any]]:
    """Return the examples of the page: disagreements, the highest and the lowest rewards, unscored rows."""
    order = np.argsort(np.where(np.isnan(file.rewards_N), np.inf, file.rewards_N), kind="stable")
    scored = order[: int((~np.isnan(file.rewards_N)).sum())]
    disagreements: dict[int, str] = {}
    for item in statistics.disagreements:
        words = f"{item.high} is high where {item.low} is low ({item.distance:.1f} standard deviations apart)"
        disagreements.setdefault(item.row, words)
    chosen: list[tuple[str, dict[int, str]]] = [
        ("Components that disagree most", disagreements),
        ("Highest rewards", dict.fromkeys(map(int, scored[::-1][:EXAMPLES]), "")),
        ("Lowest rewards", dict.fromkeys(map(int, scored[:EXAMPLES]), "")),
        ("Flat groups", _flat_examples(file)),
        ("Unscored rows", dict.fromkeys(map(int, np.flatnonzero(np.isnan(file.rewards_N))[:EXAMPLES]), "")),
    ]
    rows = read_rows(file.path, [index for _, indices in chosen for index in indices])
    return [
        {"title": title, "rows": [_shown(index, rows[index], summary) for index, summary in indices.items()]}
        for title, indices in chosen
    ]


def _shown(index: int, row: Mapping[str, Any], summary: str) -> dict[str, Any]:
    parts = {name: part or {} for name, part in (row.get("components") or {}).items()}
    return {
        "number": index + 1,
        "summary": summary or f"reward {number(row['reward'], missing='unscored')}",
        "prompt": text_of(row.get("prompt")),
        "completion": marked_messages(row.get("completion"), parts),
        "components": [
            {
                "name": name,
                "value": number(part.get("value"), missing=_status(part)),
                "contribution": number(part.get("contribution")),
                "reason": part.get("reason") or "",
            }
            for name, part in parts.items()
        ],
        "programs": [
            {"name": name, "output": part.get("output") or "", "test": failing_test(part.get("reason") or "", row)}
            for name, part in parts.items()
            if part.get("output") or failing_test(part.get("reason") or "", row)
        ],
        "tracebacks": [(name, part["traceback"]) for name, part in parts.items() if part.get("traceback")],
    }


def _status(part: Mapping[str, Any]) -> str:
    status, kind = str(part.get("status") or "–"), part.get("kind")
    return f"{status} ({kind})" if kind else status
