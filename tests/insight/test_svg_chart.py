"""Charts are well-formed, stay within their frame, and have readable axes."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.insight.svg_chart import Line, Mark, line_chart, rolling_mean, thinned, ticks

values = st.floats(-1e12, 1e12).map(lambda value: 0.0 if abs(value) < 1e-12 else value)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=50), st.booleans())
def test_every_point_is_within_the_frame(ys, dots):
    """No value is drawn outside of the chart."""
    picture = line_chart("x", [Line("a", list(enumerate(ys)), dots=dots)], width=300, height=150)
    ET.fromstring(picture)  # noqa: S314 - our own
    for joined in re.findall(r'<polyline points="([^"]+)"', picture):
        for place in joined.split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= 300
            assert 0 <= y <= 150


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_round_and_inside(low, span):
    """A chart has two to six round ticks within its bounds."""
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 6
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= value <= low + span + slack for value in found)


def test_text_is_escaped():
    """Titles, names, notes and tooltips are escaped."""
    picture = line_chart(
        "<b>", [Line("<i>", [(0, 0), (1, 1)])], marks=[Mark(0.5, "<script>")], note="<u>", meaning="<i>"
    )
    assert {element.tag.split("}")[1] for element in ET.fromstring(picture).iter()} <= {  # noqa: S314
        *("svg", "text", "line", "g", "title", "path", "polyline"),
    }


def test_values_that_are_not_finite_are_left_out():
    """NaN and infinity are skipped, and the other values are drawn."""
    picture = line_chart("x", [Line("a", [(0, 1.0), (1, math.nan), (2, 2.0), (3, math.inf)])])
    assert "nan" not in picture
    assert "inf" not in picture


def test_thinning_keeps_ends_and_peaks():
    """A thinned line has at most the requested number of points, and keeps its ends and extremes."""
    points = [(x, 100.0 if x == 4321 else -50.0 if x == 777 else 0.0) for x in range(10_000)]
    found = thinned(points, 100)
    assert len(found) <= 100
    assert {points[0], points[-1], (4321, 100.0), (777, -50.0)} <= set(found)


def test_a_rolling_mean_does_not_lag():
    """The mean of three points is right, and a straight line stays straight up to its ends."""
    assert rolling_mean([(0, 1.0), (1, 3.0), (2, 8.0)], 3) == [(0, 1.0), (1, 4.0), (2, 8.0)]
    line = [(x, 2.0 * x) for x in range(9)]
    assert rolling_mean(line, 5) == line


def test_rounding_is_drawn_as_a_flat_line():
    """Values that differ in the seventh digit do not make axis labels that are all equal."""
    picture = line_chart("x", [Line("a", [(0, 1.0), (1, 0.9999997)])])
    labels = re.findall(r'text-anchor="end"[^>]*>([^<]+)<', picture)
    assert len(labels) == len(set(labels)) >= 2


@pytest.mark.parametrize("points", [[], [(3, 5.0)], [(0, 0.0), (1, 0.0)]])
def test_few_points_make_a_chart(points):
    """No point, one point and no variation are drawn."""
    ET.fromstring(line_chart("x", [Line("a", points)]))  # noqa: S314
