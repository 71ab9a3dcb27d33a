"""Correction for a verifier that errs at known rates.

A verifier accepts a wrong completion with the rate ``fp`` and rejects a right one with the rate ``fn``, independently of everything
else. This is the reward channel of https://arxiv.org/abs/2510.00915, which derives two corrections of the policy gradient. Its backward
correction is an affine transformation of the rewards, and so cancels out of advantages that are normalised within a group. Here the
channel is modelled forward: each verdict is replaced by the probability that the completion is right, given the rates, the verdicts of
its group, and how the shares of accepted completions are distributed over the groups of the batch. Where almost all completions are
right, a rejected one is then known to be right with high probability, instead of getting the largest negative advantage of the batch;
and an accepted one where almost none is right does not get the largest positive advantage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewardkit.train.losses.advantages import GroupStatistics, group_statistics

SHARES = 101
"""Number of points of the grid of shares, from 0 to 1."""


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


def expected_verdicts(verdicts_B: Tensor, groups_B: Tensor, *, fp: float, fn: float) -> ExpectedVerdicts:
    """Estimate how likely each completion is right.

    A completion of a group with the share p of right completions is accepted with the probability ``a(p) = fp + (1 − fp − fn) p``. By
    Bayes' rule an accepted completion is right with the probability ``p (1 − fn) / a(p)``, and a rejected one with
    ``p fn / (1 − a(p))``. Both are averaged over what p may be: its distribution over prompts is estimated from all groups of the batch
    (``prior_of_shares``, empirical Bayes), and then updated with the verdicts of the group. Where both rates are 0, the probabilities are
    the verdicts.

    Args:
        verdicts_B: 1: accepted · 0: rejected · NaN: the verifier has not judged this completion.
        groups_B: Integers; equal for completions of one prompt.
        fp: The share of wrong completions that the verifier accepts.
        fn: The share of right completions that the verifier rejects.

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
    names, index_B = torch.unique(groups_B, return_inverse=True)
    empty_G = torch.zeros(len(names), dtype=torch.float64)
    accepted_G = empty_G.index_add(0, index_B, (verdicts_B == 1).double())
    rejected_G = empty_G.index_add(0, index_B, (verdicts_B == 0).double())
    share_P = torch.linspace(0, 1, SHARES, dtype=torch.float64)
    accept_P = fp + (1 - fp - fn) * share_P
    likelihood_G_P = accept_P ** accepted_G[:, None] * (1 - accept_P) ** rejected_G[:, None]
    posterior_G_P = _normalised(prior_of_shares(likelihood_G_P) * likelihood_G_P)
    if_accepted_G = (posterior_G_P * _ratio(share_P * (1 - fn), accept_P)).sum(1)
    if_rejected_G = (posterior_G_P * _ratio(share_P * fn, 1 - accept_P)).sum(1)
    right_B = torch.where(verdicts_B == 1, if_accepted_G[index_B], if_rejected_G[index_B])
    right_B = torch.where(judged_B, right_B, 0).to(verdicts_B.dtype)
    unresolved = group_statistics(right_B * (1 - right_B), groups_B, judged_B)
    bessel_B = unresolved.count_B / (unresolved.count_B - 1).clamp(min=1)
    return ExpectedVerdicts(right_B, unresolved.mean_B * bessel_B)


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


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; 0 where whole is 0, a verdict that is then impossible."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
