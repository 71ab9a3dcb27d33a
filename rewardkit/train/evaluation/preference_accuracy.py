"""Evaluates a reward model on held-out pairs, next to baselines that only look at length. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from rewardkit.train.evaluation.statistics import (
    Estimate,
    ReliabilityBin,
    expected_calibration_error,
    reliability,
    spearman,
    wilson,
)

BINS = 20
"""The number of bins of the reliability diagram over [0, 1]. Confidences are at least 0.5, so half of them are used."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores and lengths of the two answers of a pair."""

    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int
    subset: str = ""
    """The subset of the pair; empty if there are none."""


@dataclass(frozen=True, slots=True)
class SubsetAccuracy:
    """The accuracy on a subset of the held-out rows."""

    name: str
    count: int
    """The number of pairs, or of steps."""
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class PreferenceReport:
    """Metrics on held-out pairs, with 95 % intervals."""

    pairs: int
    accuracy: Estimate
    """The share of pairs whose preferred answer has the higher score; a tie counts as half."""
    loss: float
    """The mean of −log σ(chosen − rejected)."""
    calibration_error: float
    """The expected calibration error: the mean distance between confidence and accuracy over the bins of the diagram."""
    diagram: list[ReliabilityBin]
    """How often the answer with the higher score was the preferred one, by confidence σ(|chosen − rejected|)."""
    length_correlation: float
    """The Spearman correlation of score and length over all answers."""
    lead_length_correlation: float
    """The Spearman correlation of the differences in score and in length over pairs."""
    always_longer: Estimate
    """The accuracy of preferring the longer answer; ties count as half."""
    always_shorter: Estimate
    where_chosen_is_longer: Estimate
    """The accuracy on the pairs whose preferred answer is the longer one."""
    where_chosen_is_shorter: Estimate
    mean: float
    """The mean of all scores."""
    std: float
    subsets: list[SubsetAccuracy]
    """The accuracy of each subset, if ``data.subset`` names a column."""
    mean_over_subsets: float | None
    """The mean of the subsets' accuracies, each with equal weight, as RewardBench reports it (arXiv 2403.13787)."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data, with null for values that are not finite."""
        return {key: finite_json(value) for key, value in asdict(self).items()}

    def metrics(self) -> dict[str, float]:
        """Return the metrics for the log."""
        return {
            "accuracy": self.accuracy.value,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "length_correlation": self.length_correlation,
            "always_shorter": self.always_shorter.value,
            "always_longer": self.always_longer.value,
        }


def preference_report(pairs: Sequence[PairScores]) -> PreferenceReport:
    """Compute the report on some pairs.

    Raises:
        ValueError: There are no pairs.
    """
    if not pairs:
        raise ValueError("there are no pairs to report on")
    leads = [pair.chosen - pair.rejected for pair in pairs]
    longer = [pair.chosen_length - pair.rejected_length for pair in pairs]
    scores = [score for pair in pairs for score in (pair.chosen, pair.rejected)]
    lengths = [length for pair in pairs for length in (pair.chosen_length, pair.rejected_length)]
    decided = [lead for lead in leads if lead]
    by_subset: dict[str, list[float]] = {}
    for pair, lead in zip(pairs, leads, strict=True):
        if pair.subset:
            by_subset.setdefault(pair.subset, []).append(lead)
    subsets = [SubsetAccuracy(name, len(by_subset[name]), _accuracy(by_subset[name])) for name in sorted(by_subset)]
    diagram = reliability([_sigmoid(abs(lead)) for lead in decided], [lead > 0 for lead in decided], BINS)
    return PreferenceReport(
        pairs=len(pairs),
        accuracy=_accuracy(leads),
        loss=fmean(-log_sigmoid(lead) for lead in leads),
        calibration_error=expected_calibration_error(diagram),
        diagram=diagram[BINS // 2 :],
        length_correlation=spearman(scores, lengths),
        lead_length_correlation=spearman(leads, longer),
        always_longer=_accuracy(longer),
        always_shorter=_accuracy([-one for one in longer]),
        where_chosen_is_longer=_accuracy([lead for lead, more in zip(leads, longer, strict=True) if more > 0]),
        where_chosen_is_shorter=_accuracy([lead for lead, more in zip(leads, longer, strict=True) if more < 0]),
        mean=fmean(scores),
        std=pstdev(scores),
        subsets=subsets,
        mean_over_subsets=mean_over(subsets),
    )


def _accuracy(leads: Sequence[float]) -> Estimate:
    """Return the share above 0 with its Wilson interval; ties count as half."""
    right = sum(lead > 0 for lead in leads) + sum(lead == 0 for lead in leads) / 2
    around = wilson(math.floor(right), len(leads)), wilson(math.ceil(right), len(leads))
    return Estimate(right / len(leads) if leads else math.nan, around[0].low, around[1].high)


def mean_over(subsets: Sequence[SubsetAccuracy]) -> float | None:
    """Return the mean of the subsets' accuracies, each with equal weight; None without subsets."""
    return fmean(subset.accuracy.value for subset in subsets) if subsets else None


def log_sigmoid(value: float) -> float:
    """Return log σ(value)."""
    return -math.log1p(math.exp(-abs(value))) - max(-value, 0.0)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def finite_json(value: Any) -> Any:
    """Return JSON data with null for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    return [finite_json(item) for item in value] if isinstance(value, list) else value
