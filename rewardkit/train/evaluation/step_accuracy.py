"""Evaluates a process reward model on completions whose steps have labels. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rewardkit.train.evaluation.preference_accuracy import SubsetAccuracy, finite_json, log_sigmoid, mean_over
from rewardkit.train.evaluation.statistics import (
    Estimate,
    ReliabilityBin,
    expected_calibration_error,
    ranks,
    reliability,
    wilson,
)

BINS = 10


@dataclass(frozen=True, slots=True)
class StepScores:
    """The scores and labels of a completion's labelled steps."""

    logits: Sequence[float]
    labels: Sequence[float]
    """The probability that each step is right; 0.5 and more count as right."""
    subset: str = ""

    def right(self) -> list[bool]:
        """Return whether the model's verdict of each step, at the probability 0.5, is the label."""
        return [(logit >= 0) == (label >= 0.5) for logit, label in zip(self.logits, self.labels, strict=True)]

    def first_error(self, values: Sequence[bool]) -> int:
        """Return the index of the first step that is not right, or the number of steps."""
        return next((index for index, is_right in enumerate(values) if not is_right), len(values))

    def finds_first_error(self) -> bool:
        """Return whether the first step that the model calls wrong is the first that the labels call wrong, or there is none for both."""
        return self.first_error([logit >= 0 for logit in self.logits]) == self.first_error(
            [label >= 0.5 for label in self.labels]
        )


@dataclass(frozen=True, slots=True)
class StepReport:
    """Metrics on held-out completions. The 95 % intervals of steps take steps as independent."""

    completions: int
    steps: int
    accuracy: Estimate
    """The share of steps whose verdict, at the probability 0.5, is their label."""
    auc: float
    """The probability that a right step has a higher score than a wrong one (area under the ROC curve); NaN if all labels are alike."""
    always_right: Estimate
    """The accuracy of calling every step right."""
    on_right: Estimate
    """The accuracy on the steps that are right."""
    on_wrong: Estimate
    """The accuracy on the steps that are wrong."""
    first_error: Estimate
    """The share of completions whose first wrong step is found, or that have none and none is found (ProcessBench, arXiv 2412.06559)."""
    loss: float
    calibration_error: float
    diagram: list[ReliabilityBin]
    subsets: list[SubsetAccuracy]
    """The step accuracy of each subset, if ``data.subset`` names a column."""
    mean_over_subsets: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data, with null for values that are not finite."""
        return {key: finite_json(value) for key, value in asdict(self).items()}

    def metrics(self) -> dict[str, float]:
        """Return the metrics for the log."""
        auc = {} if math.isnan(self.auc) else {"auc": self.auc}
        return {
            "accuracy": self.accuracy.value,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            **auc,
            "first_error": self.first_error.value,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "always_right": self.always_right.value,
        }


def step_report(completions: Sequence[StepScores]) -> StepReport:
    """Compute the report on some completions.

    Raises:
        ValueError: There are no steps.
    """
    logits = [logit for one in completions for logit in one.logits]
    labels = [label for one in completions for label in one.labels]
    if not logits:
        raise ValueError("there are no steps to report on")
    hits = [hit for one in completions for hit in one.right()]
    truths = [label >= 0.5 for label in labels]
    diagram = reliability([math.exp(log_sigmoid(logit)) for logit in logits], truths, BINS)
    subsets = []
    for name in sorted({one.subset for one in completions if one.subset}):
        own = [hit for one in completions if one.subset == name for hit in one.right()]
        subsets.append(SubsetAccuracy(name, len(own), wilson(sum(own), len(own))))
    return StepReport(
        completions=len(completions),
        steps=len(logits),
        accuracy=wilson(sum(hits), len(hits)),
        auc=area_under_curve(logits, truths),
        always_right=wilson(sum(truths), len(truths)),
        on_right=_share([hit for hit, truth in zip(hits, truths, strict=True) if truth]),
        on_wrong=_share([hit for hit, truth in zip(hits, truths, strict=True) if not truth]),
        first_error=_share([one.finds_first_error() for one in completions]),
        loss=fmean(
            -label * log_sigmoid(logit) - (1 - label) * log_sigmoid(-logit)
            for logit, label in zip(logits, labels, strict=True)
        ),
        calibration_error=expected_calibration_error(diagram),
        diagram=diagram,
        subsets=subsets,
        mean_over_subsets=mean_over(subsets),
    )


def area_under_curve(scores: Sequence[float], truths: Sequence[bool]) -> float:
    """Return the probability that a true item has a higher score than a false one; ties count as half.

    Args:
        scores: The scores.
        truths: Whether each item is true. If all are alike, the area is NaN.
    """
    positive = sum(truths)
    negative = len(truths) - positive
    if not positive or not negative:
        return math.nan
    total = sum(rank for rank, truth in zip(ranks(scores), truths, strict=True) if truth)
    return (total - positive * (positive - 1) / 2) / (positive * negative)


def _share(hits: Sequence[bool]) -> Estimate:
    return wilson(sum(hits), len(hits))
