"""How good a reward model is on pairs that it has not seen, beside baselines that only look at length. Needs no torch."""

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
"""Of the reliability diagram over [0, 1]. Confidences are 0.5 and more, so half of them are used."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores and lengths of the two answers of a pair."""

    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int


@dataclass(frozen=True, slots=True)
class PreferenceReport:
    """Figures over held-out pairs. Intervals are of 95 %."""

    pairs: int
    accuracy: Estimate
    """Share of pairs whose preferred answer has the higher score; a tie is half a success."""
    loss: float
    """Mean −log σ(chosen − rejected)."""
    calibration_error: float
    """Mean distance of confidence and accuracy over the bins of the diagram."""
    diagram: list[ReliabilityBin]
    """By the confidence σ(|chosen − rejected|): how often the answer with the higher score was the preferred one."""
    length_correlation: float
    """Spearman, of score and length over all answers."""
    lead_length_correlation: float
    """Spearman, of the difference in score and the difference in length of a pair."""
    always_longer: Estimate
    """Accuracy of preferring the longer answer. Ties are half a success."""
    always_shorter: Estimate
    where_chosen_is_longer: Estimate
    """Accuracy on the pairs whose preferred answer is the longer one."""
    where_chosen_is_shorter: Estimate
    mean: float
    """Of all scores."""
    std: float

    def as_json(self) -> dict[str, Any]:
        """For a file; what is not a number becomes null."""
        return {key: _finite(value) for key, value in asdict(self).items()}

    def figures(self) -> dict[str, float]:
        """For a log."""
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
    """Work out all figures.

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
    diagram = reliability([_sigmoid(abs(lead)) for lead in decided], [lead > 0 for lead in decided], BINS)
    return PreferenceReport(
        pairs=len(pairs),
        accuracy=_accuracy(leads),
        loss=fmean(math.log1p(math.exp(-abs(lead))) + max(-lead, 0.0) for lead in leads),
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
    )


def _accuracy(leads: Sequence[float]) -> Estimate:
    """Share above 0, with Wilson's interval; half of the ties count."""
    right = sum(lead > 0 for lead in leads) + sum(lead == 0 for lead in leads) / 2
    around = wilson(math.floor(right), len(leads)), wilson(math.ceil(right), len(leads))
    return Estimate(right / len(leads) if leads else math.nan, around[0].low, around[1].high)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
