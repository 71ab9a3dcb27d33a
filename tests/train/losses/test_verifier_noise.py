# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.losses.advantages import group_statistics, group_std
from rewardkit.train.losses.verifier_noise import expected_verdicts

EIGHT = torch.zeros(8, dtype=torch.long)
RATES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))
GROUP = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=12)


def verdicts(accepted, size=8):
    """Return a group with so many accepted completions."""
    return torch.tensor([1.0] * accepted + [0.0] * (size - accepted))


def test_a_group_by_hand():
    """4 of 8 accepted with fp 0.1 and fn 0.3: p = 2/3, an accepted one is right with 0.9333, a rejected one with 0.4."""
    found = expected_verdicts(verdicts(4), EIGHT, fp=0.1, fn=0.3)
    assert_close(found.right_B, torch.tensor([14 / 15] * 4 + [0.4] * 4))
    unresolved = (14 / 15 * 1 / 15 + 0.4 * 0.6) / 2 * 8 / 7
    assert_close(found.variance_B, torch.full((8,), unresolved))


def test_without_errors_the_verdicts_stay():
    """Rates of 0 change nothing."""
    found = expected_verdicts(verdicts(3), EIGHT, fp=0.0, fn=0.0)
    assert found.right_B.tolist() == verdicts(3).tolist()
    assert not found.variance_B.any()


def test_a_rejection_in_a_group_of_right_completions_has_no_effect():
    """With fn 0.2, 7 of 8 accepted is what a group of right completions looks like."""
    found = expected_verdicts(verdicts(7), EIGHT, fp=0.0, fn=0.2)
    assert found.right_B.tolist() == [1.0] * 8


def test_an_acceptance_in_a_group_of_wrong_completions_has_no_effect():
    """With fp 0.2, 1 of 8 accepted is what a group of wrong completions looks like."""
    found = expected_verdicts(verdicts(1), EIGHT, fp=0.2, fn=0.0)
    assert found.right_B.tolist() == [0.0] * 8


@given(GROUP, RATES)
def test_the_mean_probability_is_the_estimated_share(group, rates):
    """The law of total probability: the probabilities of a group average to p."""
    fp, fn = rates
    found = expected_verdicts(torch.tensor(group), torch.zeros(len(group), dtype=torch.long), fp=fp, fn=fn)
    p = min(max((sum(group) / len(group) - fp) / (1 - fp - fn), 0.0), 1.0)
    # Where p had to be cut to 0 or 1, all are alike.
    assert math.isclose(float(found.right_B.mean()), p, abs_tol=1e-5)


@given(GROUP, RATES)
def test_the_standard_deviation_is_that_of_true_rewards(group, rates):
    """The law of total variance: sqrt(p (1 − p) n / (n − 1))."""
    fp, fn = rates
    groups_B = torch.zeros(len(group), dtype=torch.long)
    found = expected_verdicts(torch.tensor(group), groups_B, fp=fp, fn=fn)
    widened = found.widen(group_statistics(found.right_B, groups_B), torch.ones(len(group)))
    p, n = float(found.right_B.mean()), len(group)
    assert math.isclose(float(widened.std_B[0]), math.sqrt(max(p * (1 - p), 0) * n / (n - 1)), abs_tol=2e-3)


def test_a_lone_rejection_among_right_ones_weighs_less():
    """P = 0.972; a rejected completion is right with 0.778, so its advantage is (0.778 − 0.972) / 0.176."""
    plain = group_std(verdicts(7), group_statistics(verdicts(7), EIGHT))
    found = expected_verdicts(verdicts(7), EIGHT, fp=0.0, fn=0.1)
    corrected = group_std(found.right_B, found.widen(group_statistics(found.right_B, EIGHT), torch.ones(8)))
    assert plain[7] < -2.4
    assert math.isclose(float(corrected[7]), -1.106, abs_tol=1e-3)


def test_completions_without_a_verdict_are_left_out_of_the_share():
    """NaN is no verdict: it counts neither as accepted nor as rejected."""
    some = torch.tensor([1.0, 0.0, math.nan, math.nan])
    found = expected_verdicts(some, torch.zeros(4, dtype=torch.long), fp=0.0, fn=0.25)
    p = 2 / 3
    assert_close(found.right_B, torch.tensor([1.0, p * 0.25 / (p * 0.25 + 1 - p), 0.0, 0.0]))


def test_groups_are_kept_apart():
    """The share of one group says nothing of another."""
    both = torch.cat([verdicts(4), verdicts(7)])
    found = expected_verdicts(both, torch.arange(2).repeat_interleave(8), fp=0.1, fn=0.3)
    assert_close(found.right_B[:8], expected_verdicts(verdicts(4), EIGHT, fp=0.1, fn=0.3).right_B)
    assert_close(found.right_B[8:], expected_verdicts(verdicts(7), EIGHT, fp=0.1, fn=0.3).right_B)


@pytest.mark.parametrize(("fp", "fn"), [(0.5, 0.5), (-0.1, 0.2), (0.1, math.nan)])
def test_rates_that_carry_no_information_are_refused(fp, fn):
    """A verdict of such a verifier does not tell right from wrong."""
    with pytest.raises(ValueError, match="must not be negative, and must add up to less than 1"):
        expected_verdicts(verdicts(4), EIGHT, fp=fp, fn=fn)


def test_other_values_than_verdicts_are_refused():
    """The row and its value are told."""
    with pytest.raises(ValueError, match=r"the verdict of row 1 is 0\.5"):
        expected_verdicts(torch.tensor([1.0, 0.5]), torch.zeros(2, dtype=torch.long), fp=0.1, fn=0.1)
