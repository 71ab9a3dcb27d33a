# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.losses.advantages import group_statistics, group_std
from rewardkit.train.losses.verifier_noise import SHARES, expected_verdicts, prior_of_shares

RATES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))
GROUP = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=12)


def groups(*accepted, size=8):
    """Return the verdicts and numbers of groups with so many accepted completions, the accepted ones first."""
    verdicts = [torch.tensor([1.0] * count + [0.0] * (size - count)) for count in accepted]
    return torch.cat(verdicts), torch.arange(len(accepted)).repeat_interleave(size)


def test_without_errors_the_verdicts_stay():
    """Rates of 0 change nothing, and no variance is hidden."""
    verdicts_B, groups_B = groups(0, 3, 8)
    found = expected_verdicts(verdicts_B, groups_B, fp=0.0, fn=0.0)
    assert found.right_B.tolist() == verdicts_B.tolist()
    assert not found.variance_B.any()


def test_one_group_by_hand():
    """One group: Bayes' rule for each share of the grid, averaged by share, with loops in place of tensors."""
    fp, fn, accepted, size = 0.1, 0.3, 2, 3
    verdicts_B, groups_B = groups(accepted, size=size)
    found = expected_verdicts(verdicts_B, groups_B, fp=fp, fn=fn)
    shares = [number / (SHARES - 1) for number in range(SHARES)]
    accept = [p * (1 - fn) + (1 - p) * fp for p in shares]
    likelihood = [a**accepted * (1 - a) ** (size - accepted) for a in accept]
    prior = [1 / SHARES] * SHARES
    for _ in range(50):
        joint = [weight * like for weight, like in zip(prior, likelihood, strict=True)]
        prior = [(part / sum(joint) + 1 / SHARES) / 2 for part in joint]
    joint = [weight * like for weight, like in zip(prior, likelihood, strict=True)]
    if_accepted = sum(w * p * (1 - fn) / a for w, p, a in zip(joint, shares, accept, strict=True)) / sum(joint)
    if_rejected = sum(w * p * fn / (1 - a) for w, p, a in zip(joint, shares, accept, strict=True)) / sum(joint)
    assert_close(found.right_B, torch.tensor([if_accepted, if_accepted, if_rejected]))


def test_a_rejection_where_nearly_all_are_right_is_known_to_be_an_error():
    """With fn 0.2 these groups look like right completions, so a lone rejection weighs about a quarter of what it did."""
    verdicts_B, groups_B = groups(6, 7, 8, 6, 7, 5, 7, 6)
    plain_B = group_std(verdicts_B, group_statistics(verdicts_B, groups_B))
    found = expected_verdicts(verdicts_B, groups_B, fp=0.0, fn=0.2)
    corrected = group_statistics(found.right_B, groups_B)
    corrected_B = group_std(found.right_B, found.widen(corrected, torch.ones_like(verdicts_B)))
    assert found.right_B.min() > 0.8
    assert plain_B[15] < -2.4
    assert -0.8 < corrected_B[15] < 0


def test_an_acceptance_where_nearly_all_are_wrong_is_known_to_be_an_error():
    """With fp 0.2 these groups look like wrong completions."""
    verdicts_B, groups_B = groups(2, 1, 0, 2, 1, 3, 1, 2)
    assert expected_verdicts(verdicts_B, groups_B, fp=0.2, fn=0.0).right_B.max() < 0.2


@pytest.mark.parametrize(("fp", "fn"), [(0.1, 0.2), (0.0, 0.3), (0.25, 0.05)])
def test_probabilities_are_calibrated(fp, fn):
    """Of the completions that are right with about 30 %, about 30 % are right, whatever the distribution over prompts is."""
    generator = torch.Generator().manual_seed(0)
    share_G = torch.cat([torch.rand(1500, generator=generator), torch.zeros(750), torch.full((750,), 0.9)])
    right_B = (torch.rand(3000, 8, generator=generator) < share_G[:, None]).float().flatten()
    chance_B = torch.rand(len(right_B), generator=generator)
    verdicts_B = torch.where(right_B == 1, (chance_B >= fn).float(), (chance_B < fp).float())
    found_B = expected_verdicts(verdicts_B, torch.arange(3000).repeat_interleave(8), fp=fp, fn=fn).right_B
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        chosen = (found_B >= low) & (found_B < low + 0.2)
        if int(chosen.sum()) >= 500:
            assert math.isclose(float(found_B[chosen].mean()), float(right_B[chosen].mean()), abs_tol=0.1)


@given(GROUP, RATES)
def test_an_accepted_completion_is_never_less_likely_right_than_a_rejected_one(group, rates):
    """The order of verdicts stays, and probabilities are between 0 and 1."""
    fp, fn = rates
    verdicts_B = torch.tensor(group)
    found = expected_verdicts(verdicts_B, torch.zeros(len(group), dtype=torch.long), fp=fp, fn=fn)
    assert bool(((found.right_B >= 0) & (found.right_B <= 1)).all())
    accepted, rejected = found.right_B[verdicts_B == 1], found.right_B[verdicts_B == 0]
    if len(accepted) and len(rejected):
        assert float(accepted[0]) >= float(rejected[0]) - 1e-6


def test_the_standard_deviation_has_the_part_that_probabilities_hide():
    """The law of total variance, Bessel-corrected."""
    verdicts_B, groups_B = groups(4, 7)
    found = expected_verdicts(verdicts_B, groups_B, fp=0.1, fn=0.2)
    widened = found.widen(group_statistics(found.right_B, groups_B), torch.full((16,), 0.5))
    for first in (0, 8):
        right = found.right_B[first : first + 8].double()
        hidden = float((right * (1 - right)).mean()) * 8 / 7
        expected = math.sqrt(float(right.var()) + 0.25 * hidden)
        assert math.isclose(float(widened.std_B[first]), expected, rel_tol=1e-4)


def test_completions_without_a_verdict_have_no_part():
    """NaN is no verdict: the others of its group are judged as if it were not there."""
    some = torch.tensor([1.0, 0.0, math.nan, math.nan])
    found = expected_verdicts(some, torch.zeros(4, dtype=torch.long), fp=0.0, fn=0.25)
    alone = expected_verdicts(some[:2], torch.zeros(2, dtype=torch.long), fp=0.0, fn=0.25)
    assert_close(found.right_B, torch.cat([alone.right_B, torch.zeros(2)]))


def test_verdicts_on_equal_completions_add_up():
    """Three of four verdicts on one text: the odds are 0.9 ** 3 · 0.1 to 0.2 ** 3 · 0.8, about 11."""
    verdicts_B, texts_B = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), torch.tensor([7, 7, 7, 7, 9])
    found_B = expected_verdicts(verdicts_B, torch.zeros(5, dtype=torch.long), fp=0.2, fn=0.1, texts_B=texts_B).right_B
    assert len(set(found_B[:4].tolist())) == 1
    apart_B = expected_verdicts(verdicts_B, torch.zeros(5, dtype=torch.long), fp=0.2, fn=0.1).right_B
    assert apart_B[3] < 0.3 < 0.8 < found_B[3]


def test_equal_verdicts_of_a_verifier_that_repeats_itself_count_once():
    """Four equal rejections of one text are as one."""
    once = torch.tensor([0.0, 1.0])
    four = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    texts_B = torch.tensor([0, 0, 0, 0, 1])
    rates = {"fp": 0.1, "fn": 0.3}
    one_B = expected_verdicts(once, torch.zeros(2, dtype=torch.long), **rates).right_B
    group_B = torch.zeros(5, dtype=torch.long)
    found_B = expected_verdicts(four, group_B, texts_B=texts_B, is_redrawn=False, **rates).right_B
    assert_close(found_B[[0, 4]], one_B)
    assert expected_verdicts(four, group_B, texts_B=texts_B, **rates).right_B[0] < found_B[0]


def test_the_prior_is_where_the_groups_are():
    """Groups that can only come from one share put the weight there, but for that of the even group."""
    likelihood = torch.zeros(9, 5, dtype=torch.float64)
    likelihood[:, 3] = 1.0
    assert_close(prior_of_shares(likelihood)[3], torch.tensor(0.92, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("fp", "fn"), [(0.5, 0.5), (-0.1, 0.2), (0.1, math.nan)])
def test_rates_that_carry_no_information_are_refused(fp, fn):
    """A verdict of such a verifier does not tell right from wrong."""
    with pytest.raises(ValueError, match="must not be negative, and must add up to less than 1"):
        expected_verdicts(*groups(4), fp=fp, fn=fn)


def test_other_values_than_verdicts_are_refused():
    """The row and its value are told."""
    with pytest.raises(ValueError, match=r"the verdict of row 1 is 0\.5"):
        expected_verdicts(torch.tensor([1.0, 0.5]), torch.zeros(2, dtype=torch.long), fp=0.1, fn=0.1)


def test_one_group_of_answers_by_hand():
    """Two answers: Bayes' rule over "the first", "the second" and "none of them", with the share of groups that contain it estimated."""
    fp, fn = 0.1, 0.3
    verdicts_B, answers_B = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([4, 4, 4, 2])
    found_B = expected_verdicts(verdicts_B, torch.zeros(4, dtype=torch.long), fp=fp, fn=fn, answers_B=answers_B).right_B
    ratios = [((1 - fn) / fp) ** 2 * fn / (1 - fp), fn / (1 - fp)]
    share = 0.5
    for _ in range(50):
        contains = share * sum(ratios) / 2 / (share * sum(ratios) / 2 + 1 - share)
        share = (contains + 0.5) / 2
    first, second = (share * ratio / 2 / (share * sum(ratios) / 2 + 1 - share) for ratio in ratios)
    assert_close(found_B, torch.tensor([first, first, first, second]))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 2), st.integers(0, 3)), min_size=1), RATES)
def test_of_the_answers_to_a_prompt_at_most_one_is_right(rows, rates):
    """The probabilities of a group's answers add up to 1 at most, and equal answers have equal ones."""
    verdicts, groups_, answers = zip(*rows, strict=True)
    groups_B, answers_B = torch.tensor(groups_), torch.tensor(answers)
    fp, fn = rates
    found = expected_verdicts(torch.tensor(verdicts), groups_B, fp=fp, fn=fn, answers_B=answers_B)
    for group in set(groups_):
        probabilities = {}
        for probability, answer in zip(
            found.right_B[groups_B == group].tolist(), answers_B[groups_B == group].tolist(), strict=True
        ):
            assert 0 <= probability <= 1
            assert probabilities.setdefault(answer, probability) == probability
        assert sum(probabilities.values()) <= 1 + 1e-5
    assert bool((found.variance_B >= 0).all())


def test_an_acceptance_against_an_answer_with_many_is_known_to_be_an_error():
    """Of five completions with one answer four are accepted, and so is a single one with another answer."""
    verdicts_B = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    answers_B = torch.tensor([0, 0, 0, 0, 0, 1, 2, 3])
    found_B = expected_verdicts(
        verdicts_B, torch.zeros(8, dtype=torch.long), fp=0.1, fn=0.2, answers_B=answers_B
    ).right_B
    assert float(found_B[:5].min()) > 0.95
    assert float(found_B[5:].max()) < 0.05


def test_a_verifier_that_repeats_itself_says_of_equal_texts_once():
    """Four equal rejections of one text are as one; of four texts with the same answer they are four."""
    verdicts_B, groups_B = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]), torch.zeros(5, dtype=torch.long)
    answers_B, same_B = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 0, 1])
    rates = {"fp": 0.1, "fn": 0.3, "is_redrawn": False}
    once = expected_verdicts(verdicts_B[3:], groups_B[3:], answers_B=answers_B[3:], **rates).right_B
    one_text = expected_verdicts(verdicts_B, groups_B, answers_B=answers_B, texts_B=same_B, **rates).right_B
    four_texts = expected_verdicts(verdicts_B, groups_B, answers_B=answers_B, **rates).right_B
    assert_close(one_text[3:], once)
    assert four_texts[0] < one_text[0]


def test_the_variance_of_answers_is_that_of_the_true_verdicts():
    """Two of four completions have an answer that is right for certain: the deviation is that of 1, 1, 0, 0."""
    verdicts_B = torch.tensor([1.0, 1.0, 0.0, 0.0])
    answers_B, groups_B = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    found = expected_verdicts(verdicts_B, groups_B, fp=0.0, fn=0.2, answers_B=answers_B)
    widened = found.widen(group_statistics(found.right_B, groups_B), torch.ones(4))
    assert_close(widened.std_B, torch.full((4,), float(verdicts_B.std())), atol=1e-4, rtol=0)


def test_answers_say_more_than_verdicts_alone():
    """The mean squared error of the probabilities falls to less than half, where right completions agree and wrong ones differ."""
    generator = torch.Generator().manual_seed(0)
    share_G = torch.rand(300, generator=generator)
    right_G_N = torch.rand(300, 8, generator=generator) < share_G[:, None]
    answers_B = torch.where(right_G_N, 0, torch.randint(1, 20, (300, 8), generator=generator)).flatten()
    right_B, chance_B = right_G_N.float().flatten(), torch.rand(2400, generator=generator)
    verdicts_B = torch.where(right_B == 1, (chance_B >= 0.2).float(), (chance_B < 0.1).float())
    groups_B = torch.arange(300).repeat_interleave(8)
    alone_B = expected_verdicts(verdicts_B, groups_B, fp=0.1, fn=0.2).right_B
    found_B = expected_verdicts(verdicts_B, groups_B, fp=0.1, fn=0.2, answers_B=answers_B).right_B
    assert float((found_B - right_B).square().mean()) < 0.5 * float((alone_B - right_B).square().mean())


def test_further_verdicts_count_as_the_first():
    """Asked three times about one of two completions: as three rows of the same text."""
    verdicts_B, groups_B, texts_B = torch.tensor([0.0, 1.0]), torch.zeros(2, dtype=torch.long), torch.tensor([0, 1])
    rates = {"fp": 0.1, "fn": 0.3}
    further_B_2 = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    found_B = expected_verdicts(verdicts_B, groups_B, texts_B=texts_B, further_B_2=further_B_2, **rates).right_B
    rows_B = torch.tensor([0.0, 1.0, 1.0, 1.0])
    same_B = expected_verdicts(
        rows_B, torch.zeros(4, dtype=torch.long), texts_B=torch.tensor([0, 0, 0, 1]), **rates
    ).right_B
    assert_close(found_B, same_B[[0, 3]])
