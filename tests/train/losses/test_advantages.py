# ruff: noqa: E402 - torch first, or nothing here can be imported
import math
import statistics

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.losses import advantages as adv

R = torch.tensor([1.0, 2.0, 6.0, 0.5, 0.5, 0.5, 3.0, 0.0, 0.0])
G = torch.tensor([7, 7, 7, 2, 2, 2, 5, 5, 5])


def test_statistics_of_three_groups_of_three():
    """Mean, Bessel-corrected std and spread are those of each row's group."""
    found = adv.group_statistics(R, G)
    assert_close(found.mean_B, torch.tensor([3.0] * 3 + [0.5] * 3 + [1.0] * 3))
    # (1−3)² + (2−3)² + (6−3)² = 14, over 2; (3−1)² + 1 + 1 = 6, over 2
    assert_close(found.std_B, torch.tensor([math.sqrt(7)] * 3 + [0.0] * 3 + [math.sqrt(3)] * 3))
    assert_close(found.spread_B, torch.tensor([5.0] * 3 + [0.0] * 3 + [3.0] * 3))
    assert found.count_B.tolist() == [3] * 9


def test_group_std_by_hand():
    """GRPO divides by the group's std plus eps, and a flat group gets exactly 0."""
    found = adv.group_std(R, adv.group_statistics(R, G), eps=1e-4)
    a, b = math.sqrt(7) + 1e-4, math.sqrt(3) + 1e-4
    assert_close(found, torch.tensor([-2 / a, -1 / a, 3 / a, 0, 0, 0, 2 / b, -1 / b, -1 / b]))


def test_no_std_by_hand():
    """Dr. GRPO only takes the mean away."""
    found = adv.no_std(R, adv.group_statistics(R, G))
    assert_close(found, torch.tensor([-2.0, -1, 3, 0, 0, 0, 2, -1, -1]))


def test_batch_std_by_hand():
    """The batch variant divides by the std of all rewards of the batch."""
    found = adv.batch_std(R, adv.group_statistics(R, G), eps=1e-4)
    std = statistics.stdev(R.tolist()) + 1e-4
    assert_close(found, torch.tensor([-2.0, -1, 3, 0, 0, 0, 2, -1, -1]) / std)


def test_rloo_by_hand():
    """RLOO's baseline is the mean of the others."""
    found = adv.rloo(R, adv.group_statistics(R, G))
    # 1 − (2+6)/2, 2 − (1+6)/2, 6 − (1+2)/2; 3 − 0, 0 − 3/2, 0 − 3/2
    assert_close(found, torch.tensor([-3.0, -1.5, 4.5, 0, 0, 0, 3, -1.5, -1.5]))


@pytest.mark.parametrize("kind", sorted(adv.ADVANTAGES))
def test_an_unscored_row_leaves_its_group_first(kind):
    """A row without a score changes nothing for the others, whatever stands in its place, and gets 0."""
    scored = torch.tensor([True, False, True, True, True, False])
    rewards = torch.tensor([1.0, math.nan, 3.0, 4.0, 0.0, -math.inf])
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    found = adv.ADVANTAGES[kind](rewards, adv.group_statistics(rewards, groups, scored))
    alone = adv.ADVANTAGES[kind](rewards[scored], adv.group_statistics(rewards[scored], groups[scored]))
    assert_close(found[scored], alone)
    assert found[~scored].tolist() == [0.0, 0.0]


def test_a_scored_row_must_have_a_finite_reward():
    """NaN with a claim to be a score is an error that names the row."""
    with pytest.raises(ValueError, match="row 1 is nan"):
        adv.group_statistics(torch.tensor([1.0, math.nan]), torch.tensor([0, 0]))


@pytest.mark.parametrize("kind", sorted(adv.ADVANTAGES))
def test_float_noise_is_no_spread(kind):
    """Equal rewards whose float mean is off by a rounding error get exactly 0, not noise divided by noise."""
    value = torch.tensor(0.1, dtype=torch.float32)
    rewards = torch.cat([value.repeat(7), value[None].nextafter(torch.ones(1)), torch.tensor([0.0, 1.0])])
    groups = torch.tensor([0] * 8 + [1] * 2)
    found = adv.ADVANTAGES[kind](rewards, adv.group_statistics(rewards, groups), eps=0.0)
    assert found[:8].tolist() == [0.0] * 8
    assert found[8] < 0 < found[9]


@pytest.mark.parametrize("kind", sorted(adv.ADVANTAGES))
def test_a_group_of_one_says_nothing(kind):
    """One completion, or one scored completion, has nothing to be compared with: 0, not NaN."""
    rewards = torch.tensor([5.0, 3.0, 9.0])
    scored = torch.tensor([True, True, False])
    statistics_ = adv.group_statistics(rewards, torch.tensor([0, 1, 1]), scored)
    assert adv.ADVANTAGES[kind](rewards, statistics_).tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_advantages_do_not_depend_on_the_order_of_rows(data):
    """Rows may stand in any order: each keeps its advantage; and those of a group sum to 0."""
    n = data.draw(st.integers(1, 12))
    rewards = torch.tensor(
        data.draw(st.lists(st.floats(-10, 10, width=32), min_size=n, max_size=n)), dtype=torch.float64
    )
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    order = torch.tensor(data.draw(st.permutations(range(n))))
    kind = data.draw(st.sampled_from(sorted(adv.ADVANTAGES)))
    found = adv.ADVANTAGES[kind](rewards, adv.group_statistics(rewards, groups))
    shuffled = adv.ADVANTAGES[kind](rewards[order], adv.group_statistics(rewards[order], groups[order]))
    assert_close(shuffled, found[order])
    for group in groups.unique():
        assert abs(float(found[groups == group].sum())) < 1e-6


def test_reinforce_pp_by_hand():
    """REINFORCE++ whitens the reward to come, over the tokens that count, across ones that don't."""
    rewards = torch.tensor([[0.0, 0.0, 1.0], [-0.5, 9.0, 2.0], [3.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    found = adv.reinforce_pp(rewards, mask, gamma=0.5)
    returns = [0.25, 0.5, 1.0, -0.5 + 0.5 * 2.0, 2.0, 3.0]
    mean, var = statistics.mean(returns), statistics.variance(returns)
    a, b, c, d, e, f = ((x - mean) / math.sqrt(var + 1e-8) for x in returns)
    assert_close(found, torch.tensor([[a, b, c], [d, 0, e], [f, 0, 0]]))


def test_reinforce_pp_baseline_by_hand():
    """The baseline variant centres in the group and whitens over tokens: a longer row counts more in mean and variance."""
    rewards = torch.tensor([1.0, 3.0, math.nan])
    groups = adv.group_statistics(rewards, torch.tensor([0, 0, 0]), torch.tensor([True, True, False]))
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, True]])
    found = adv.reinforce_pp_baseline(rewards, groups, mask)
    tokens = [-1.0, -1.0, -1.0, 1.0]
    mean, std = statistics.mean(tokens), math.sqrt(statistics.variance(tokens) + 1e-8)
    low, high = (-1 - mean) / std, (1 - mean) / std
    assert_close(found, torch.tensor([[low, low, low], [high, 0, 0], [0, 0, 0]]))


def test_process_advantages_by_hand():
    """A token gets the normalised rewards of its own step and those after it; all steps of a group are normalised together."""
    steps = torch.tensor([[1.0, 0.0, 99.0], [0.0, 0.0, 1.0], [99.0, 99.0, 99.0]])
    step_mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    step_of_token = torch.tensor([[0, 0, 1], [0, 1, 2], [-1, -1, -1]])
    found = adv.process_advantages(steps, step_mask, step_of_token, torch.tensor([4, 4, 4]), eps=0.0)
    values = [1.0, 0.0, 0.0, 0.0, 1.0]
    mean, std = statistics.mean(values), statistics.stdev(values)
    one, zero = (1 - mean) / std, (0 - mean) / std
    expected = [[one + zero, one + zero, zero], [2 * zero + one, zero + one, one], [0, 0, 0]]
    assert_close(found, torch.tensor(expected))
    own = adv.process_advantages(steps, step_mask, step_of_token, torch.tensor([4, 4, 4]), to_come=False, eps=0.0)
    assert_close(own, torch.tensor([[one, one, zero], [zero, zero, one], [0, 0, 0]]))


def test_process_advantages_refuse_a_step_without_reward():
    """A token of a step that has no reward is an error, not a silent 0."""
    with pytest.raises(ValueError, match="no reward"):
        adv.process_advantages(
            torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]]), torch.tensor([[0, 1]]), torch.tensor([0])
        )


def test_component_shares_by_hand():
    """Shares of the within-group variance add up to 1; a constant supplies nothing; an unscored row is not seen."""
    a = [1.0, 0.0, 0.0, 5.0]
    b = [0.0, 1.0, 1.0, 5.0]
    constant = [2.0, 2.0, 2.0, 5.0]
    rewards = torch.tensor([3.0, 3.5, 3.5, math.nan])  # 1·a + 1.5·b + constant
    contributions = torch.tensor([a, [1.5 * x for x in b], constant])
    groups = adv.group_statistics(rewards, torch.zeros(4, dtype=torch.long), torch.tensor([True, True, True, False]))
    # R − mean = (−1/3, 1/6, 1/6); its squares sum to 1/6. a: −1/3 → −2; 1.5·b: 1.5·(1/6 + 1/6) = 1/2 → 3.
    assert_close(adv.component_shares(contributions, rewards, groups), torch.tensor([-2.0, 3.0, 0.0]))


def test_component_shares_without_spread_are_0():
    """Where nothing varies no component supplies anything."""
    rewards = torch.tensor([1.0, 1.0])
    groups = adv.group_statistics(rewards, torch.tensor([0, 0]))
    assert adv.component_shares(rewards[None], rewards, groups).tolist() == [0.0]
