"""A scored file as one HTML page: distributions, training signal, disagreements, and examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from rewardkit.files import write_whole
from rewardkit.insight.difference_report import number, text_of
from rewardkit.insight.scored_file import ScoredFile, read_rows, read_scored_file
from rewardkit.insight.scored_statistics import ScoredStatistics, statistics_of

EXAMPLES = 5
_EXTRACTED = re.compile(r"prediction '((?:[^'\\]|\\.)*)'")
"""The form in which rewards quote the extracted answer in their reason."""


def write_scored_report(path: Path, out: Path) -> ScoredStatistics:
    """Write the page of a scored file. It needs no network and no scripts.

    Args:
        path: A file that ``rewardkit score`` wrote.
        out: The page.

    Returns:
        The statistics that it shows.

    Raises:
        DataError: The file can't be read.
        OSError: The page can't be written.
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
        written=datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        sections=_sections(file, statistics),
    )
    write_whole(out, page.encode())
    return statistics


def mark_extracted(completion: str, reasons: Sequence[str]) -> list[tuple[str, bool]]:
    """Split a completion into pieces; True marks what a reward extracted from it, as its reason quotes it.

    The last occurrence of a quoted answer is marked, since answers come last.
    """
    spans = []
    for reason in reasons:
        for match in _EXTRACTED.finditer(reason):
            quoted = match[1].replace("\\'", "'").replace("\\\\", "\\")
            start = completion.rfind(quoted) if quoted else -1
            if start >= 0:
                spans.append((start, start + len(quoted)))
    pieces, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            pieces += [(completion[done:start], False), (completion[start:end], True)]
            done = end
    return [piece for piece in [*pieces, (completion[done:], False)] if piece[0]]


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
        ("Unscored rows", dict.fromkeys(map(int, np.flatnonzero(np.isnan(file.rewards_N))[:EXAMPLES]), "")),
    ]
    rows = read_rows(file.path, [index for _, indices in chosen for index in indices])
    return [
        {"title": title, "rows": [_shown(index, rows[index], summary) for index, summary in indices.items()]}
        for title, indices in chosen
    ]


def _shown(index: int, row: Mapping[str, Any], summary: str) -> dict[str, Any]:
    parts = row.get("components") or {}
    components = [
        (
            name,
            number((part or {}).get("value"), missing=str((part or {}).get("status") or "–")),
            (part or {}).get("reason") or "",
        )
        for name, part in parts.items()
    ]
    return {
        "number": index + 1,
        "summary": summary or f"reward {number(row['reward'], missing='unscored')}",
        "prompt": text_of(row.get("prompt")),
        "completion": mark_extracted(text_of(row.get("completion")), [reason for _, _, reason in components]),
        "components": components,
    }
