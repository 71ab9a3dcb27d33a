"""Tables of the evaluations of reward models, for the reports of runs and of ``rewardkit eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rewardkit.train.reports import html
from rewardkit.train.reports.reliability_diagram import reliability_svg

PAIR_SHARES = {
    "accuracy": "accuracy",
    "where_chosen_is_longer": "accuracy where the preferred answer is longer",
    "where_chosen_is_shorter": "accuracy where the preferred answer is shorter",
    "always_longer": "always the longer answer",
    "always_shorter": "always the shorter answer",
}
PAIR_NUMBERS = {
    "calibration_error": "expected calibration error (ECE)",
    "length_correlation": "Spearman correlation of score and length",
    "lead_length_correlation": "Spearman correlation of score difference and length difference",
}
STEP_SHARES = {
    "accuracy": "accuracy of steps",
    "on_right": "accuracy on right steps",
    "on_wrong": "accuracy on wrong steps",
    "always_right": "calling every step right",
    "first_error": "completions whose first error is found",
}
STEP_NUMBERS = {"auc": "area under the ROC curve (AUC)", "calibration_error": "expected calibration error (ECE)"}

Named = tuple[str, Mapping[str, Any]]
"""The name of a model, and the content of its ``evaluation.json``."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table of a report."""

    heading: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]
    """The columns that hold numbers."""
    charts: Sequence[Markup] = ()


def sections(evaluations: Sequence[Named]) -> list[Section]:
    """Return the tables of some evaluations: of pairs, of steps, and of subsets.

    Args:
        evaluations: The evaluations of reward models.
    """
    steps = [one for one in evaluations if "steps" in one[1]]
    pairs = [one for one in evaluations if "steps" not in one[1]]
    found = []
    if pairs:
        # The charts have numbers only.
        charts = [Markup(reliability_svg(evaluation)) for _, evaluation in pairs]  # noqa: S704
        found.append(_measures("Held-out pairs", pairs, PAIR_SHARES, PAIR_NUMBERS, charts))
    if steps:
        found.append(_measures("Held-out steps", steps, STEP_SHARES, STEP_NUMBERS))
    return found + [_subsets(evaluations)] * any(one.get("subsets") for _, one in evaluations)


def write_reward_model_page(path: Path, evaluation: Mapping[str, Any], facts: Mapping[str, str]) -> Path:
    """Write the page of ``rewardkit eval`` on a reward model. Raises OutputError.

    Args:
        path: The HTML file.
        evaluation: The evaluation.
        facts: What was evaluated, by name.
    """
    return html.write_page(
        path,
        "reward_model.html.j2",
        title="Reward model on held-out data",
        facts=list(facts.items()),
        sections=sections([("model", evaluation)]),
    )


def _measures(
    heading: str,
    evaluations: Sequence[Named],
    shares: Mapping[str, str],
    numbers: Mapping[str, str],
    charts: Sequence[Markup] = (),
) -> Section:
    rows = [
        [f"{label} (95 %, Wilson)", *(_share(found[name]) for _, found in evaluations)]
        for name, label in shares.items()
    ]
    rows += [
        [label, *("–" if found[name] is None else f"{found[name]:.3f}" for _, found in evaluations)]
        for name, label in numbers.items()
    ]
    head = ["", *(name for name, _ in evaluations)]
    return Section(heading, head, rows, range(1, len(head)), charts)


def _subsets(evaluations: Sequence[Named]) -> Section:
    """Return the accuracies of the subsets, with the mean over subsets, as RewardBench reports them."""
    found = {name: {one["name"]: one for one in evaluation.get("subsets") or ()} for name, evaluation in evaluations}
    names = sorted({subset for subsets in found.values() for subset in subsets})
    rows = [
        [
            subset,
            *(
                cell
                for subsets in found.values()
                for cell in (
                    (f"{subsets[subset]['count']:,}", _share(subsets[subset]["accuracy"]))
                    if subset in subsets
                    else ("–", "–")
                )
            ),
        ]
        for subset in names
    ]
    means = [evaluation.get("mean_over_subsets") for _, evaluation in evaluations]
    rows.append(
        ["mean over subsets", *(cell for mean in means for cell in ("", "–" if mean is None else f"{mean:.1%}"))]
    )
    head = ["subset", *(cell for name, _ in evaluations for cell in ("n", f"{name}: accuracy (95 %, Wilson)"))]
    return Section("By subset", head, rows, range(1, len(head)))


def _share(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    return "–" if value is None or low is None or high is None else f"{value:.1%} ({low:.1%}…{high:.1%})"
