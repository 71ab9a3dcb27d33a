"""Weights over training steps, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.config.schedule import Schedule


@pytest.mark.parametrize(
    ("data", "weights"),
    [
        (0.3, {0: 0.3, 1000: 0.3}),
        (2, {0: 2.0}),
        ({"linear": {"from": 0.2, "to": 0.0, "steps": [0, 300]}}, {0: 0.2, 75: 0.15, 150: 0.1, 300: 0.0, 999: 0.0}),
        ({"linear": {"from": 0, "to": 1, "steps": [100, 200]}}, {0: 0, 100: 0, 101: 0.01, 150: 0.5, 199: 0.99, 200: 1}),
        # (1 − cos(π/4)) / 2 = 0.146447 of the way after a quarter, half after half.
        ({"cosine": {"from": 1.0, "to": 0.0, "steps": [0, 100]}}, {0: 1, 25: 0.853553, 50: 0.5, 75: 0.146447, 100: 0}),
        ({"steps": [[0, 1.0], [10, 0.5], [20, 0]]}, {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0, 99: 0}),
        ({"steps": [[10, 0.5]]}, {0: 0.5, 10: 0.5, 11: 0.5}),
    ],
)
def test_hand_worked_points(data: object, weights: dict[int, float]) -> None:
    """The weight at a step is the one worked out by hand, before the first and after the last step too."""
    schedule = Schedule.from_data(data)
    assert {step: schedule.at(step) for step in weights} == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        {"linear": {"from": 0, "to": 1, "steps": [10, 10]}},
        {"cosine": {"from": 0, "to": 1, "steps": [10, 5]}},
        {"steps": [[0, 1], [0, 2]]},
        {"steps": [[5, 1], [0, 2]]},
    ],
)
def test_steps_ascend(data: object) -> None:
    """Steps that stand still or go back are refused, and named."""
    with pytest.raises(ValueError, match=r"steps must ascend, found \d+, \d+"):
        Schedule.from_data(data)


@given(
    st.sampled_from(["linear", "cosine"]),
    st.floats(-10, 10),
    st.floats(-10, 10),
    st.integers(0, 100),
    st.integers(1, 100),
    st.integers(0, 300),
)
def test_a_ramp_stays_between_its_ends(kind: str, low: float, high: float, start: int, length: int, step: int) -> None:
    """A linear or cosine weight is never outside of what it goes from and to."""
    weight = Schedule.from_data({kind: {"from": low, "to": high, "steps": [start, start + length]}}).at(step)
    assert min(low, high) - 1e-9 <= weight <= max(low, high) + 1e-9
