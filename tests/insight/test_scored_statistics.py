"""Tests of the statistics of a scored file."""

import math
from pathlib import Path

import numpy as np
import pytest

from rewardkit.insight.scored_file import ScoredFile
from rewardkit.insight.scored_statistics import histogram, statistics_of, within_group

NAN = math.nan


def scored(rewards, groups, contributions=None, lengths=None, **components):
    """Return a scored file that was never on disk."""
    count = len(rewards)
    return ScoredFile(
        path=Path("scored.parquet"),
        reward_id="r",
        rewards_N=np.array(rewards, float),
        components_N={name: np.array(values, float) for name, values in components.items()},
        groups_N=np.array(groups),
        rows_N=np.arange(count),
        contributions_N={name: np.array(values, float) for name, values in (contributions or {}).items()},
        lengths_N=np.array(lengths if lengths is not None else [1.0] * count, float),
    )


def series(file, name):
    """Return the statistics of one series."""
    return next(item for item in statistics_of(file).series if item.name == name)


def test_values_are_centred_within_their_group():
    """The mean of each group is taken over its scored rows."""
    np.testing.assert_equal(within_group(np.array([1, 3, 5, NAN]), np.array([0, 0, 1, 1])), [-1.0, 1.0, 0.0, NAN])


def test_shares_of_the_signal_add_up():
    """The components' shares of the within-group variance of a sum add up to 1; differences between groups do not count."""
    contributions = {"a": [1, 0, 0, 0], "b": [0.5, 0.5, 9.0, 9.5]}
    rewards = np.add(contributions["a"], contributions["b"])
    file = scored(rewards, [0, 0, 1, 1], contributions, a=[1, 0, 0, 0], b=[1, 1, 1, 1])
    shares = [series(file, name).variance_share for name in "ab"]
    assert shares == pytest.approx([0.8, 0.2])


def test_flat_groups_are_told_apart():
    """Prompts that nobody solves, that everybody solves, and others are counted apart."""
    found = statistics_of(scored([0, 0, 1, 1, 0.5, 0.5, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3, 3, 4]))
    assert (found.flat_low, found.flat_high, found.flat_other) == (1, 1, 1)
    assert found.series[0].flat_groups == 3 / 4


def test_disagreements_are_rows_of_opposite_verdicts():
    """The row where one component is unusually high and another unusually low comes first."""
    file = scored([0] * 5, range(5), style=[0, 0, 0, 0, 1], correct=[1, 1, 1, 1, 0])
    first = statistics_of(file).disagreements[0]
    assert (first.row, first.high, first.low) == (4, "style", "correct")


def test_the_correlation_with_length():
    """A reward that grows with the completion shows it."""
    assert series(scored([1, 2, 3], [0, 1, 2], lengths=[10, 20, 30]), "reward").length_correlation == pytest.approx(1)
    assert series(scored([1, 2, 3], [0, 1, 2]), "reward").length_correlation is None


def test_nothing_scored_is_no_error():
    """A file whose rows are all unscored has no numbers, and says so by None."""
    found = series(scored([NAN, NAN], [0, 0], x=[NAN, NAN]), "reward")
    assert (found.scored, found.mean, found.flat_groups, found.histogram) == (0, None, None, None)


def test_few_values_have_bins_of_their_own():
    """A reward of 0 and 1 is drawn as two bars; many values share bins of equal width."""
    assert histogram(np.array([0.0, 1.0, 1.0])).counts == (1, 2)
    many = histogram(np.linspace(0, 1, 100))
    assert (len(many.counts), sum(many.counts), many.discrete) == (20, 100, False)
