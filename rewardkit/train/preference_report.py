"""How good a reward model is on pairs that it has not seen, beside baselines that only look at length. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from rewardkit.train.math.metrics import (
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


def reliability_svg(report: Mapping[str, Any], size: int = 360) -> str:
    """A reliability diagram as an SVG picture: accuracy over confidence, the diagonal, and how many pairs are in each bin.

    Args:
        report: What ``PreferenceReport.as_json`` gives.
        size: Width and height in pixels.
    """
    margin, plot = 48, size - 72
    bins = report["diagram"]

    def x(confidence: float) -> float:
        return margin + (confidence - 0.5) * 2 * plot

    def y(share: float) -> float:
        return 24 + (1 - share) * plot

    most = max((one["count"] for one in bins), default=0) or 1
    error = report["calibration_error"]
    title = f"{report['pairs']:,} held-out pairs, accuracy {report['accuracy']['value']:.3f}"
    title += "" if error is None else f", calibration error {error:.3f}"
    frame = f'width="{size}" height="{size}" viewBox="0 0 {size} {size}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame} font-family="sans-serif" font-size="11" fill="#1f2328">',
        f'<rect width="{size}" height="{size}" fill="white"/>',
        _text(size / 2, 15, title),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line x1="{margin}" x2="{margin + plot}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/>'
        )
        parts.append(_text(margin - 6, y(share) + 4, f"{share:g}", "end"))
        confidence = 0.5 + share / 2
        parts.append(_text(x(confidence), y(0) + 15, f"{confidence:g}"))
    for one in bins:
        height = one["count"] / most * plot / 4
        parts.append(
            f'<rect x="{x(one["low"]) + 1:.1f}" y="{y(0) - height:.1f}" width="{plot / len(bins) - 2:.1f}" '
            f'height="{height:.1f}" fill="#cfe3f5"/>'
        )
    parts.append(f'<line x1="{x(0.5)}" y1="{y(0.5)}" x2="{x(1)}" y2="{y(1)}" stroke="#999" stroke-dasharray="4 3"/>')
    for one in bins:
        if one["count"]:
            interval = wilson(round(one["observed"] * one["count"]), one["count"])
            at = f"{x(one['predicted']):.1f}"
            parts.append(
                f'<line x1="{at}" x2="{at}" y1="{y(interval.low):.1f}" y2="{y(interval.high):.1f}" stroke="#1f6fb4"/>'
            )
            parts.append(f'<circle cx="{at}" cy="{y(one["observed"]):.1f}" r="3.5" fill="#1f6fb4"/>')
    parts.append(_text(margin + plot / 2, size - 8, "confidence σ(|lead|); bars: how many pairs"))
    parts.append(f'<text transform="translate(12 {24 + plot / 2}) rotate(-90)" text-anchor="middle">share right</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
