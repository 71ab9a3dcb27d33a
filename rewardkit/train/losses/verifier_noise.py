"""Correction for a verifier that errs at known rates.

A verifier accepts a wrong completion with the rate ``fp`` and rejects a right one with the rate ``fn``, independently of everything
else. This is the reward channel of https://arxiv.org/abs/2510.00915, which derives two corrections of the policy gradient. Its backward
correction is an affine transformation of the rewards, and so cancels out of advantages that are normalised within a group. Here the
channel is modelled forward: each verdict is replaced by the probability that the completion is right, given the rates, the verdicts of
its group, and how the shares of accepted completions are distributed over the groups of the batch. Where almost all completions are
right, a rejected one is then known to be right with high probability, instead of getting the largest negative advantage of the batch;
and an accepted one where almost none is right does not get the largest positive advantage. Where completions have final answers, of
which at most one is right, the verdicts on all completions with the same answer count together, and for one answer against the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewardkit.train.losses.advantages import GroupStatistics, group_statistics

SHARES = 101
"""Number of points of the grid of shares, from 0 to 1."""
_TINY = 1e-300
"""In place of a probability of 0."""


@dataclass(frozen=True, slots=True)
class ExpectedVerdicts:
    """What the true verdicts are expected to be. Shapes: (B,)."""

    right_B: Tensor
    """The probability that the completion is right, given the verdicts of its group; 0 where there is no verdict."""
    variance_B: Tensor
    """The part of the variance of the group's true verdicts that the probabilities do not show: the mean of ``right (1 − right)`` over
    the group, Bessel-corrected."""

    def widen(self, groups: GroupStatistics, effect_B: Tensor) -> GroupStatistics:
        """Return the statistics with the standard deviation that the true rewards are expected to have.

        Args:
            groups: Statistics of the rewards in which verdicts have been replaced by probabilities.
            effect_B: What a verdict of 1 adds to the reward.
        """
        return replace(groups, std_B=(groups.std_B.square() + effect_B.square() * self.variance_B).sqrt())


def expected_verdicts(
    verdicts_B: Tensor,
    groups_B: Tensor,
    *,
    fp: float,
    fn: float,
    texts_B: Tensor | None = None,
    answers_B: Tensor | None = None,
    further_B_2: Tensor | None = None,
    is_redrawn: bool = True,
) -> ExpectedVerdicts:
    """Estimate how likely each completion is right.

    A right completion is accepted with the probability ``1 − fn``, a wrong one with ``fp``. Equal completions of a prompt are right or
    wrong together, so all their verdicts count: with k of m accepted, ``R = (1 − fn)^k fn^(m − k)`` is their probability if the
    completion is right, and ``W = fp^k (1 − fp)^(m − k)`` if it is wrong. Where a share p of a prompt's distinct completions is right,
    it is right with the probability ``p R / (p R + (1 − p) W)``. This is averaged over what p may be: its distribution over prompts is
    estimated from all groups of the batch (``prior_of_shares``, empirical Bayes), and then updated with the verdicts of the group. Where
    both rates are 0, the probabilities are the verdicts.

    With ``answers_B``, at most one answer of a prompt is right. With the probability q, estimated from all groups of the batch, the right
    one is among the answers of a group, and before the verdicts each of its n answers is as likely to be it. The probability of answer a is
    then ``q / n · L_a / (1 − q + q / n · Σ L)``, where L is the product of R / W over the distinct completions with an answer.

    Args:
        verdicts_B: 1: accepted · 0: rejected · NaN: the verifier has not judged this completion.
        groups_B: Integers; equal for completions of one prompt.
        fp: The share of wrong completions that the verifier accepts.
        fn: The share of right completions that the verifier rejects.
        texts_B: Integers; equal for equal completions of one prompt. By default all differ.
        answers_B: Integers; equal for completions of one prompt that give the same answer, at most one of which is right. Equal texts
            have equal answers. By default nothing is known of answers.
        further_B_2: The numbers of further rejections and acceptances of each completion, if the verifier was asked more than once.
            Shape: (B, 2).
        is_redrawn: Whether the verifier errs anew each time that it is asked. False: equal completions have one verdict, which counts
            once.

    Raises:
        ValueError: A verdict is neither 0, 1 nor NaN, or the rates add up to 1 or more, so that a verdict carries no information.
    """
    if not (fp >= 0 and fn >= 0 and fp + fn < 1):
        raise ValueError(f"fp ({fp:g}) and fn ({fn:g}) must not be negative, and must add up to less than 1")
    judged_B = ~verdicts_B.isnan()
    wrong_B = judged_B & (verdicts_B != 0) & (verdicts_B != 1)
    if bool(wrong_B.any()):
        row = int(wrong_B.nonzero()[0])
        raise ValueError(f"the verdict of row {row} is {float(verdicts_B[row]):g}, but a verdict is 0 or 1")
    texts_B = torch.arange(len(verdicts_B)) if texts_B is None else texts_B
    group_B = torch.unique(groups_B, return_inverse=True)[1]
    text_B, group_D = _classes(group_B, texts_B)
    further_B_2 = torch.zeros(len(verdicts_B), 2) if further_B_2 is None else further_B_2
    accepted_D = _sums((verdicts_B == 1) + further_B_2[:, 1], text_B, len(group_D))
    rejected_D = _sums((verdicts_B == 0) + further_B_2[:, 0], text_B, len(group_D))
    if not is_redrawn:
        count_D = (accepted_D + rejected_D).clamp(min=1)
        accepted_D, rejected_D = accepted_D / count_D, rejected_D / count_D
    log_right_D = accepted_D * _log(1 - fn) + rejected_D * _log(fn)
    log_wrong_D = accepted_D * _log(fp) + rejected_D * _log(1 - fp)
    if answers_B is None:
        right_D = _probability_of_texts(log_right_D, log_wrong_D, group_D)
        right_B = torch.where(judged_B, right_D[text_B].to(verdicts_B.dtype), 0)
        unresolved = group_statistics(right_B * (1 - right_B), groups_B, judged_B)
        return ExpectedVerdicts(right_B, unresolved.mean_B * _bessel(unresolved.count_B))
    answer_B, group_A = _classes(group_B, answers_B)
    answer_D = torch.zeros_like(group_D).scatter(0, text_B, answer_B)
    right_A = _probability_of_answers(_sums(log_right_D - log_wrong_D, answer_D, len(group_A)), group_A)
    right_B = torch.where(judged_B, right_A[answer_B].to(verdicts_B.dtype), 0)
    # If answer a is right, the verdicts of its group are 1 in the share n / N, and so have the variance n / N (1 − n / N).
    count_A = _sums(judged_B, answer_B, len(group_A))
    share_A = count_A / _sums(count_A, group_A)[group_A].clamp(min=1)
    variance_G = _sums(right_A * share_A * (1 - share_A), group_A)
    known = group_statistics(right_B, groups_B, judged_B)
    expected_B = variance_G[group_B].to(right_B.dtype) * _bessel(known.count_B)
    return ExpectedVerdicts(right_B, (expected_B - known.std_B.square()).clamp(min=0))


def _probability_of_texts(log_right_D: Tensor, log_wrong_D: Tensor, group_D: Tensor) -> Tensor:
    """Return the probability that each distinct completion is right, where nothing but verdicts is known. Shape: (D,).

    Args:
        log_right_D: The log-probability of the verdicts on a completion, if it is right.
        log_wrong_D: If it is wrong.
        group_D: The group of each distinct completion, from 0.
    """
    share_P = torch.linspace(0, 1, SHARES, dtype=torch.float64)
    right_D_P = log_right_D[:, None].exp() * share_P
    total_D_P = right_D_P + log_wrong_D[:, None].exp() * (1 - share_P)
    posterior_G_P = _posterior_of_shares(_sums(total_D_P.clamp(min=_TINY).log(), group_D))
    return (posterior_G_P[group_D] * right_D_P / total_D_P.clamp(min=_TINY)).sum(1)


def _probability_of_answers(log_ratio_A: Tensor, group_A: Tensor, *, rounds: int = 50) -> Tensor:
    """Return the probability that each answer is right, of which at most one per group is. Shape: (A,).

    The share of groups that contain the right answer is estimated by expectation maximisation, with one further group in which it is as
    likely as not.

    Args:
        log_ratio_A: The logarithm of how much more probable the verdicts on an answer are if it is right.
        group_A: The group of each answer, from 0.
        rounds: Number of updates.
    """
    answers_A = _sums(torch.ones_like(group_A), group_A)[group_A]
    # Relative to the most probable answer of the group, and to none (0), so that nothing overflows.
    highest_G = torch.zeros(int(group_A.max()) + 1 if len(group_A) else 0, dtype=torch.float64)
    highest_G = highest_G.scatter_reduce(0, group_A, log_ratio_A, "amax")
    weight_A = (log_ratio_A - highest_G[group_A]).exp() / answers_A
    some_G, none_G = _sums(weight_A, group_A), (-highest_G).exp()
    contained = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(rounds):
        contained_G = contained * some_G / (contained * some_G + (1 - contained) * none_G)
        contained = (contained_G.sum() + 0.5) / (len(contained_G) + 1)
    return contained * weight_A / (contained * some_G + (1 - contained) * none_G)[group_A]


def _posterior_of_shares(log_likelihood_G_P: Tensor) -> Tensor:
    """Return the distribution of each group's share of right completions. Shape: (G, P)."""
    likelihood_G_P = (log_likelihood_G_P - log_likelihood_G_P.amax(1, keepdim=True)).exp()
    return _normalised(prior_of_shares(likelihood_G_P) * likelihood_G_P)


def prior_of_shares(likelihood_G_P: Tensor, *, rounds: int = 50) -> Tensor:
    """Estimate the distribution of the share of right completions over prompts, by expectation maximisation.

    This is the nonparametric maximum likelihood of a mixing distribution on a grid (Laird 1978), with the weight of one further group
    that is spread evenly, so that few groups do not make the distribution narrow.

    Args:
        likelihood_G_P: The likelihood of each group's verdicts for each share of the grid.
        rounds: Number of updates from the even distribution.

    Returns:
        The weight of each share, (P,). They add up to 1.
    """
    groups, shares = likelihood_G_P.shape
    even_P = likelihood_G_P.new_full((shares,), 1 / shares)
    weight_P = even_P
    for _ in range(rounds):
        weight_P = (_normalised(weight_P * likelihood_G_P).sum(0) + even_P) / (groups + 1)
    return weight_P


def _normalised(weights_G_P: Tensor) -> Tensor:
    return weights_G_P / weights_G_P.sum(1, keepdim=True)


def _classes(group_B: Tensor, names_B: Tensor) -> tuple[Tensor, Tensor]:
    """Number the pairs of group and name. Returns the number of each row's pair, (B,), and the group of each pair, (D,)."""
    pairs, index_B = torch.unique(torch.stack((group_B, names_B)), dim=1, return_inverse=True)
    return index_B, pairs[0]


def _sums(values_B: Tensor, index_B: Tensor, count: int | None = None) -> Tensor:
    """Add up the rows with the same index, from 0 to ``count`` (by default to the highest index)."""
    count = int(index_B.max()) + 1 if count is None and len(index_B) else count or 0
    return torch.zeros(count, *values_B.shape[1:], dtype=torch.float64).index_add(0, index_B, values_B.double())


def _bessel(count_B: Tensor) -> Tensor:
    """Return n / (n − 1), or n where n is 1 or 0."""
    return count_B / (count_B - 1).clamp(min=1)


def _log(value: float) -> float:
    return math.log(max(value, _TINY))
