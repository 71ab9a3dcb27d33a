"""Draws the reliability diagram of a reward model as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewardkit.train.evaluation.statistics import wilson


def reliability_svg(report: Mapping[str, Any], size: int = 360) -> str:
    """Draw accuracy over confidence, the diagonal of perfect calibration, and the number of pairs in each bin.

    Args:
        report: The result of ``PreferenceReport.as_json``.
        size: Width and height in pixels.

    Returns:
        An ``<svg>`` element, which is also a complete SVG file.
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
    parts.append(_text(margin + plot / 2, size - 8, "confidence σ(|score difference|); bars: number of pairs"))
    parts.append(f'<text transform="translate(12 {24 + plot / 2}) rotate(-90)" text-anchor="middle">accuracy</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
