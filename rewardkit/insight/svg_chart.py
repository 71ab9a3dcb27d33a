"""Draws line charts as SVG.

Written by hand because reports may contain neither scripts nor downloads, and plotting libraries bring one or the other. Text takes the
colour of its surroundings, so that charts fit light and dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#2f81f7", "#d9822b", "#2da44e", "#bf4b8a", "#8250df", "#1b9aaa", "#9a6700", "#cf222e")
"""The colours of the first line, the second line, and so on."""
ALARM = "#e5484d"
MOST_POINTS = 300
"""Longer lines are thinned; their extremes stay."""
TITLE, RIGHT, BOTTOM = 32, 12, 34
"""Space above, right of and below the plot, in pixels."""
FLAT = 1e-5
"""Values whose relative difference is below this are drawn as equal: it is rounding, and axis labels could not show it."""
CHARACTER = 6.2
"""Approximate width of an 11-pixel character."""

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
    """A marked position on the horizontal axis."""

    x: float
    text: str
    """The tooltip."""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Axes:
    """The mapping from values to pixels."""

    left: float
    right: float
    low: float
    high: float
    margin: float
    width: int
    height: int
    log: bool
    integers: bool

    def x(self, value: float) -> float:
        """Return the distance from the left edge, in pixels."""
        low, high, at = (math.log2(item) if self.log else item for item in (self.left, self.right, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.margin + share * (self.width - self.margin - RIGHT)

    def y(self, value: float) -> float:
        """Return the distance from the top edge, in pixels."""
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
    x_label: str = "",
    meaning: str = "",
    bounds: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
) -> str:
    """Draw lines.

    Args:
        title: The chart's title.
        lines: The lines. Values that are not finite are left out.
        width: Width in pixels.
        height: Height in pixels.
        log_x: Whether the horizontal axis is logarithmic, to base 2.
        note: Text at the top right, such as the unit of the vertical axis.
        x_label: The label of the horizontal axis.
        meaning: The chart's tooltip.
        bounds: Bounds of the vertical axis; by default they follow from the lines.
        marks: Vertical marks.

    Returns:
        An ``<svg>`` element, which is also a complete SVG file.
    """
    lines = [_finite(line) for line in lines]
    xs = [x for line in lines for x, _ in line.points] or [0.0]
    ys = [y for line in lines for _, y in line.points] + [y for line in lines for _, *ends in line.band for y in ends]
    low, high = bounds or _bounds(ys or [0.0])
    y_ticks = ticks(low, high)
    margin = 14 + CHARACTER * max(len(_label(tick)) for tick in y_ticks)
    integers = all(x == int(x) for x in xs)
    axes = Axes(min(xs), max(xs), low, high, margin, width, height, log_x, integers)
    body = [
        *(_across(axes, tick) for tick in y_ticks),
        *_below(axes),
        *(_mark(axes, mark) for mark in marks if axes.left <= mark.x <= axes.right),
        *(_line(axes, line) for line in sorted(lines, key=lambda line: not line.faint)),
    ]
    if x_label:
        middle = (axes.margin + width - RIGHT) / 2
        body.append(
            f'<text x="{middle:.1f}" y="{height - 5}" text-anchor="middle" fill-opacity=".65">{html.escape(x_label)}</text>'
        )
    shown = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{shown}" font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
        f"{f'<title>{html.escape(meaning)}</title>' if meaning else ''}"
        f'<text x="6" y="15" font-size="12" font-weight="600">{shown}</text>'
        f'<text x="{width - RIGHT}" y="15" text-anchor="end" fill-opacity=".65">{html.escape(note)}</text>{"".join(body)}</svg>'
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at least two and at most ``most`` round numbers within the bounds."""
    for power in range(math.floor(math.log10(high - low)) - 1, math.floor(math.log10(high - low)) + 2):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if 2 <= last - first + 1 <= most:
                return [round(index * step, 12 - power) for index in range(first, last + 1)]
    return [low, high]


def rolling_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Return centred moving averages over about ``window`` points; towards the ends over fewer, as many on either side."""
    found = []
    for index, (x, _) in enumerate(points):
        reach = min(window // 2, index, len(points) - 1 - index)
        inside = points[index - reach : index + reach + 1]
        found.append((x, math.fsum(y for _, y in inside) / len(inside)))
    return found


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points: the first, the last, and the lowest and highest of equally long stretches."""
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
    """Return the smallest and largest value with a margin."""
    low, high = min(values), max(values)
    if low == high == 0:
        return 0.0, 1.0
    is_flat = high - low <= FLAT * max(abs(low), abs(high))
    room = max(abs(low) * 0.1, 1e-6) if is_flat else 0.05 * (high - low)
    # A metric that can't be negative must not seem to be.
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
        if axes.integers:
            places = [place for place in places if place == int(place)] or [axes.left, axes.right]
    else:
        places = [axes.left]
    found = []
    for place in places:
        half = CHARACTER * len(_label(place)) / 2
        x = min(axes.x(place), axes.width - half - 2)
        found.append(
            f'<text x="{x:.1f}" y="{axes.height - BOTTOM + 15}" text-anchor="middle" fill-opacity=".65">{_label(place)}</text>'
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
