"""The difference between two rewards: ranks, advantages, flat groups, unscored rows."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.errors import DataError
from rewardkit.insight.difference import compare, dr_grpo_advantages, grpo_advantages, rloo_advantages
from rewardkit.insight.scored_file import ScoredFile

NAN = math.nan


def scored(rewards, groups, rows=None, **components):
    """Return a scored file that was never on disk."""
    return ScoredFile(
        path=Path("scored.parquet"),
        reward_id="r",
        rewards_N=np.array(rewards, float),
        components_N={name: np.array(values, float) for name, values in components.items()},
        groups_N=np.array(groups),
        rows_N=np.arange(len(rewards)) if rows is None else np.array(rows),
    )


def test_ranks_are_compared_within_groups():
    """A pair counts as flipped when the two rewards prefer different rollouts; ties are counted by who lost them."""
    a = scored([1, 0, 2, 2, 5], [0, 0, 1, 1, 1])
    b = scored([0, 1, 2, 3, 5], [0, 0, 1, 1, 1])
    found = compare(a, b)
    assert (found.pairs, found.flipped_pairs, found.newly_tied_pairs, found.newly_distinct_pairs) == (4, 1, 0, 1)
    back = compare(b, a)
    assert (back.flipped_pairs, back.newly_tied_pairs, back.newly_distinct_pairs) == (1, 1, 0)


def test_flat_groups_are_counted():
    """A group is flat where all its scored rewards are equal; a single rollout is no group."""
    found = compare(scored([1, 1, 0, 1, 3], [0, 0, 1, 1, 2]), scored([1, 1, 1, 1, 3], [0, 0, 1, 1, 2]))
    assert (found.flat_groups_a, found.flat_groups_b, found.newly_flat_groups) == (1, 2, 1)


def test_unscored_rows_take_no_part():
    """A row without a reward is in no pair, and one that lost its score is the most changed of all."""
    found = compare(scored([1, 0, 0.5], [0, 0, 0]), scored([1, 0.1, NAN], [0, 0, 0]))
    assert (found.pairs, found.unscored_a, found.unscored_b, found.newly_unscored) == (1, 0, 1, 1)
    assert found.changed_rows == 2
    assert found.most_changed == (2, 1)
    assert found.mean_b == pytest.approx(0.55)


def test_advantages_by_hand():
    """Rewards 0, 1, 2 have mean 1 and (Bessel-corrected) standard deviation 1."""
    rewards = np.array([[0.0, 1.0, 2.0]])
    np.testing.assert_allclose(dr_grpo_advantages(rewards), [[-1, 0, 1]])
    np.testing.assert_allclose(grpo_advantages(rewards), [[-1 / 1.0001, 0, 1 / 1.0001]])
    np.testing.assert_allclose(rloo_advantages(rewards), [[-1.5, 0, 1.5]])


@pytest.mark.parametrize("function", [grpo_advantages, dr_grpo_advantages, rloo_advantages])
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.integers(0, 3))
def test_unscored_siblings_change_no_advantage(function, rewards, unscored):
    """The advantages of scored rows are those of the group without its unscored rows."""
    whole = function(np.array([rewards]))
    with_unscored = function(np.array([rewards + [NAN] * unscored]))
    np.testing.assert_allclose(with_unscored[0, : len(rewards)], whole[0], atol=1e-9)
    assert np.isnan(with_unscored[0, len(rewards) :]).all()


def test_advantage_changes_are_of_rows_that_both_scored():
    """Only rows with two rewards enter the change, the sign flips and the correlation."""
    found = compare(scored([0, 1, 7], [0, 0, 0]), scored([1, 0, NAN], [0, 0, 0])).advantages["dr_grpo"]
    first, second = [0 - 8 / 3, 1 - 8 / 3], [0.5, -0.5]
    assert found.mean_absolute == pytest.approx(np.abs(np.subtract(first, second)).mean())
    assert found.sign_flips == 0.5
    assert found.correlation == pytest.approx(-1)


def test_components_of_one_file_only_are_named():
    """A component that was added, removed, or has other values is told, with how many rows it changed."""
    found = compare(
        scored([1, 1], [0, 0], old=[1, 1], same=[1, 2]), scored([1, 1], [0, 0], same=[1, 2.5], new=[0, NAN])
    )
    assert {name: change.changed for name, change in found.components.items()} == {"old": 2, "same": 1, "new": 1}
    assert found.components["old"].mean_b is None
    assert found.components["same"].largest == 0.5


def test_files_of_other_rows_are_refused():
    """Rows are compared one by one, so both files must hold the same ones."""
    with pytest.raises(DataError, match=r"has 2 rows and .* has 1"):
        compare(scored([1, 1], [0, 0]), scored([1], [0]))
    with pytest.raises(DataError, match=r"row 2 of .* different prompts or completions"):
        compare(scored([1, 1], [0, 0], rows=[1, 2]), scored([1, 1], [0, 0], rows=[1, 3]))
