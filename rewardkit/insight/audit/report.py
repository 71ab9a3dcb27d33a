"""What an audit found, as JSON data and as an HTML page without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from rewardkit.files import write_page as write_page_file
from rewardkit.insight.audit.attack import Attack, ComponentFinding, Finding
from rewardkit.insight.audit.clusters import Cluster
from rewardkit.insight.audit.rows import HonestRow, Levels, text_of

SHOWN_CHEATS = 30
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy found that was trained against the reward."""

    folder: str
    steps: int
    first_reward: float | None
    """The mean reward of the first steps."""
    last_reward: float | None
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything that one run of the command found."""

    reward: Path
    reward_id: str
    levels: Levels
    honest: Sequence[HonestRow]
    attack: Attack
    searched: Attack | None = None
    """What the cheats got that a search found; None if none was run."""
    evaluations: int = 0
    """The number of completions that the search scored."""
    policy: Policy | None = None
    interrupted: bool = False
    """True if Ctrl-C ended the search."""

    @property
    def findings(self) -> list[Finding]:
        """The findings of the stock and of the search, the most successful first."""
        found = [*self.attack.findings, *(self.searched.findings if self.searched else ())]
        return sorted(found, key=lambda one: (-one.share, -one.mean_best))

    @property
    def accepted_rows(self) -> int:
        """The number of rows on which at least one cheat was accepted."""
        return sum(best.reward >= self.levels.threshold for best in self.attack.rows.values())


def to_data(report: AuditReport) -> dict[str, Any]:
    """Return the report as JSON data."""
    data: dict[str, Any] = {
        "reward_id": report.reward_id,
        "levels": _levels(report.levels),
        "rows": len(report.attack.rows),
        "rows_with_an_accepted_cheat": report.accepted_rows,
        "completions": report.attack.completions,
        "cheats": [_finding(found) for found in report.attack.findings],
        "components": {part.name: _component(part) for part in report.attack.components},
        "best_by_row": [_row(report, place) for place in report.attack.rows],
        "search": None,
        "policy": None,
    }
    if report.searched is not None:
        cheats = [_finding(found) for found in report.searched.findings]
        data["search"] = {"evaluations": report.evaluations, "cheats": cheats}
    if (policy := report.policy) is not None:
        data["policy"] = {
            "folder": policy.folder,
            "steps": policy.steps,
            "first_reward": policy.first_reward,
            "last_reward": policy.last_reward,
            "clusters": [_cluster(cluster) for cluster in policy.clusters],
        }
    return data


def write_page(report: AuditReport, out: Path) -> None:
    """Write the report as one HTML page that needs no network and no scripts.

    Args:
        report: The report.
        out: The page.

    Raises:
        OutputError: The page can't be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rewardkit.insight"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    ranked = sorted(report.attack.rows, key=lambda place: -report.attack.rows[place].reward)
    page = environment.get_template("audit.html.jinja").render(
        report=report,
        findings=report.findings[:SHOWN_CHEATS],
        hidden=max(0, len(report.findings) - SHOWN_CHEATS),
        accepted=sum(found.accepted > 0 for found in report.findings),
        rows=[_row(report, place) for place in ranked[:SHOWN_ROWS]],
        prompts=[text_of(row.prompt) for row in report.honest],
        shortened=shortened,
        visible=visible,
    )
    write_page_file(out, page)


def shortened(text: str, length: int = SHOWN_CHARACTERS) -> str:
    """Return a text, cut in the middle if it is long."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]} […{len(text) - length:,} characters…] {text[-length // 2 :]}"


def visible(text: str) -> str:
    """Return a text in which characters that are not displayed are written by their code."""
    if not text:
        return "(empty)"
    return "".join(letter if letter.isprintable() or letter in "\n\t" else f"⟨U+{ord(letter):04X}⟩" for letter in text)


def _levels(levels: Levels | None) -> dict[str, float] | None:
    if levels is None:
        return None
    return {"right": levels.right, "wrong": levels.wrong, "threshold": levels.threshold}


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "name": found.cheat.name,
        "kind": found.cheat.kind,
        "description": found.cheat.description,
        "rows": found.rows,
        "accepted": found.accepted,
        "share": found.share,
        "mean_best_reward": found.mean_best,
        "unscored": found.unscored,
        "example": found.example,
        "example_row": found.example_row + 1,
        "example_reward": found.example_reward,
        "reasons": found.reasons,
    }


def _component(part: ComponentFinding) -> dict[str, Any]:
    best = [
        {
            "name": found.cheat.name,
            "share": found.share,
            "mean_best_value": found.mean_best,
            "example": found.example,
            "example_value": found.example_reward,
            "reason": found.reasons.get(part.name, ""),
        }
        for found in part.best
    ]
    return {
        "levels": _levels(part.levels),
        "separates": part.levels is not None and part.levels.separates,
        "best": best,
    }


def _row(report: AuditReport, place: int) -> dict[str, Any]:
    honest, best = report.honest[place], report.attack.rows[place]
    rights = [pair for index, pair in enumerate(honest.completions) if honest.is_right(index, report.levels)]
    wrongs = [pair for index, pair in enumerate(honest.completions) if not honest.is_right(index, report.levels)]
    return {
        "row": place + 1,
        "prompt": text_of(honest.prompt),
        "right": max((reward for _, reward in rights), default=None),
        "wrong": max((reward for _, reward in wrongs), default=None),
        "cheat": best.cheat,
        "reward": best.reward,
        "accepted": best.reward >= report.levels.threshold,
        "completion": best.completion,
        "components": {name: {"cheat": cheat, "value": value} for name, (cheat, value) in best.components.items()},
    }


def _cluster(cluster: Cluster) -> Mapping[str, Any]:
    return {
        "skeleton": cluster.skeleton,
        "count": cluster.count,
        "share": cluster.share,
        "early_share": cluster.early_share,
        "mean_reward": cluster.mean_reward,
        "right": cluster.right,
        "example": cluster.example.completion,
        "example_prompt": cluster.example.prompt,
        "example_reward": cluster.example.reward,
    }
