"""Line charts as SVG pictures that need nothing else. Text takes the colour of what is around it, so dark pages can show them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#2f81f7", "#d9822b", "#2da44e", "#bf4b8a", "#8250df", "#1b9aaa", "#9a6700", "#cf222e")
"""Of the first line, the second …"""
ALARM = "#e5484d"
MOST_POINTS = 300
"""A longer line is thinned out; its peaks stay."""
TITLE, RIGHT, BOTTOM = 32, 12, 22
"""Room around the plot, in pixels."""
FLAT = 1e-5
"""Values that differ by less than this share of themselves are drawn as equal: that is rounding, and labels could not tell them apart."""
CHARACTER = 6.2
"""Width of a character of 11 pixels, about."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    """From left to right."""
    colour: str = COLOURS[0]
    dashed: bool = False
    dots: bool = False
    faint: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high): an interval around the line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the horizontal axis that is pointed out."""

    x: float
    text: str
    """Shown when the pointer rests on it."""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Axes:
    """How values become places."""

    left: float
    right: float
    low: float
    high: float
    margin: float
    width: int
    height: int
    log: bool

    def x(self, value: float) -> float:
        """From the left, in pixels."""
        low, high, at = (math.log2(item) if self.log else item for item in (self.left, self.right, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.margin + share * (self.width - self.margin - RIGHT)

    def y(self, value: float) -> float:
        """From the top, in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return self.height - BOTTOM - share * (self.height - BOTTOM - TITLE)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    width: int = 340,
    height: int = 180,
    log_x: bool = False,
    note: str = "",
    meaning: str = "",
    bounds: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
) -> str:
    """Draw lines.

    Args:
        title: Stands above.
        lines: What is not finite is left out.
        width: In pixels.
        height: In pixels.
        log_x: Whether the horizontal axis is logarithmic, to base 2.
        note: Stands at the right above: what the axes show, where that is not plain (steps are), such as a unit.
        meaning: Shown when the pointer rests on the chart.
        bounds: Of the vertical axis; by default of what is drawn.
        marks: Vertical lines.

    Returns:
        An ``<svg>`` element; a file of its own, too.
    """
    lines = [_finite(line) for line in lines]
    xs = [x for line in lines for x, _ in line.points] or [0.0]
    ys = [y for line in lines for _, y in line.points] + [y for line in lines for _, *ends in line.band for y in ends]
    low, high = bounds or _bounds(ys or [0.0])
    y_ticks = ticks(low, high)
    margin = 14 + CHARACTER * max(len(_label(tick)) for tick in y_ticks)
    axes = Axes(min(xs), max(xs), low, high, margin, width, height, log_x)
    body = [
        *(_across(axes, tick) for tick in y_ticks),
        *_below(axes),
        *(_mark(axes, mark) for mark in marks if axes.left <= mark.x <= axes.right),
        *(_line(axes, line) for line in sorted(lines, key=lambda line: not line.faint)),
    ]
    shown = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{shown}" font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
        f"{f'<title>{html.escape(meaning)}</title>' if meaning else ''}"
        f'<text x="6" y="15" font-size="12" font-weight="600">{shown}</text>'
        f'<text x="{width - RIGHT}" y="15" text-anchor="end" fill-opacity=".65">{html.escape(note)}</text>{"".join(body)}</svg>'
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within bounds, at most so many, at least two."""
    for power in range(math.floor(math.log10(high - low)) - 1, math.floor(math.log10(high - low)) + 2):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if 2 <= last - first + 1 <= most:
                return [round(index * step, 12 - power) for index in range(first, last + 1)]
    return [low, high]


def rolling_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each value's mean with its neighbours, about ``window`` points; towards the ends with fewer, as many on either side."""
    found = []
    for index, (x, _) in enumerate(points):
        reach = min(window // 2, index, len(points) - 1 - index)
        inside = points[index - reach : index + reach + 1]
        found.append((x, math.fsum(y for _, y in inside) / len(inside)))
    return found


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """The lowest and the highest of as many stretches as there is room for, the first and the last."""
    if len(points) <= most:
        return list(points)
    kept = {0, len(points) - 1}
    stretches = (most - 2) // 2
    for index in range(stretches):
        inside = range(index * len(points) // stretches, (index + 1) * len(points) // stretches)
        kept |= {min(inside, key=lambda at: points[at][1]), max(inside, key=lambda at: points[at][1])}
    return [points[index] for index in sorted(kept)]


def _finite(line: Line) -> Line:
    points = [point for point in line.points if all(map(math.isfinite, point))]
    band = [item for item in line.band if all(map(math.isfinite, item))]
    return Line(line.name, thinned(points), line.colour, line.dashed, line.dots, line.faint, band)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest with some room; where all are equal, some room around them."""
    low, high = min(values), max(values)
    if low == high == 0:
        return 0.0, 1.0
    is_flat = high - low <= FLAT * max(abs(low), abs(high))
    room = max(abs(low) * 0.1, 1e-6) if is_flat else 0.05 * (high - low)
    # A figure that can't be negative should not seem so.
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def _label(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else (f"{value:.3g}", "")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:.6g}"


def _across(axes: Axes, value: float) -> str:
    y = axes.y(value)
    return (
        f'<line x1="{axes.margin:.1f}" x2="{axes.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
        f'stroke-opacity=".13"/><text x="{axes.margin - 6:.1f}" y="{y + 4:.1f}" text-anchor="end" fill-opacity=".65">'
        f"{_label(value)}</text>"
    )


def _below(axes: Axes) -> list[str]:
    most = 5 if axes.width < 500 else 9
    if axes.log:
        places = [2.0**power for power in range(math.ceil(math.log2(axes.left)), int(math.log2(axes.right)) + 1)]
        places = places[:: math.ceil(len(places) / most)] or [axes.left]
    elif axes.right > axes.left:
        places = ticks(axes.left, axes.right, most)
    else:
        places = [axes.left]
    found = []
    for place in places:
        half = CHARACTER * len(_label(place)) / 2
        x = min(axes.x(place), axes.width - half - 2)
        found.append(
            f'<text x="{x:.1f}" y="{axes.height - 7}" text-anchor="middle" fill-opacity=".65">{_label(place)}</text>'
        )
    return found


def _mark(axes: Axes, mark: Mark) -> str:
    x, top = axes.x(mark.x), TITLE - 8
    stroke = f'stroke="{ALARM}" stroke-width="{2 if mark.strong else 1}" stroke-dasharray="4 3"'
    return (
        f'<g><title>{html.escape(mark.text)}</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" '
        f'y2="{axes.height - BOTTOM}" {stroke} stroke-opacity="{1 if mark.strong else 0.45}"/>'
        f'<path d="M{x - 4:.1f} {top}h8l-4 6z" fill="{ALARM}" fill-opacity="{1 if mark.strong else 0.45}"/></g>'
    )


def _line(axes: Axes, line: Line) -> str:
    places = [(axes.x(x), axes.y(y)) for x, y in line.points]
    parts = [f"<title>{html.escape(line.name)}</title>"]
    if line.band:
        outline = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
        edge = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in outline)
        parts.append(f'<polygon points="{edge}" fill="{line.colour}" fill-opacity=".15"/>')
    if len(places) > 1:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        style = f'stroke="{line.colour}" stroke-width="1.6"' + (' stroke-dasharray="5 3"' if line.dashed else "")
        parts.append(f'<polyline points="{joined}" fill="none" {style} stroke-opacity="{0.3 if line.faint else 1}"/>')
    if line.dots or len(places) == 1:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{line.colour}"/>' for x, y in places]
    return f"<g>{''.join(parts)}</g>"
