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
    is_redrawn: bool = True,
) -> ExpectedVerdicts:
    """Estimate how likely each completion is right.

    A right completion is accepted with the probability ``1 − fn``, a wrong one with ``fp``. Equal completions of a prompt are right or
    wrong together, so all their verdicts count: with k of m accepted, ``R = (1 − fn)^k fn^(m − k)`` is their probability if the
    completion is right, and ``W = fp^k (1 − fp)^(m − k)`` if it is wrong. Where a share p of a prompt's distinct completions is right,
    it is right with the probability ``p R / (p R + (1 − p) W)``. This is averaged over what p may be: its distribution over prompts is
    estimated from all groups of the batch (``prior_of_shares``, empirical Bayes), and then updated with the verdicts of the group. Where
    both rates are 0, the probabilities are the verdicts.

    Args:
        verdicts_B: 1: accepted · 0: rejected · NaN: the verifier has not judged this completion.
        groups_B: Integers; equal for completions of one prompt.
        fp: The share of wrong completions that the verifier accepts.
        fn: The share of right completions that the verifier rejects.
        texts_B: Integers; equal for equal completions of one prompt. By default all differ.
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
    # Row 0 of ``pairs``: the group; row 1: the text. One column per distinct completion of a prompt, D of them.
    pairs, index_B = torch.unique(torch.stack((groups_B, texts_B)), dim=1, return_inverse=True)
    group_D = torch.unique(pairs[0], return_inverse=True)[1]
    empty_D = torch.zeros(pairs.shape[1], dtype=torch.float64)
    accepted_D = empty_D.index_add(0, index_B, (verdicts_B == 1).double())
    rejected_D = empty_D.index_add(0, index_B, (verdicts_B == 0).double())
    if not is_redrawn:
        count_D = (accepted_D + rejected_D).clamp(min=1)
        accepted_D, rejected_D = accepted_D / count_D, rejected_D / count_D
    if_right_D = (1 - fn) ** accepted_D * fn**rejected_D
    if_wrong_D = fp**accepted_D * (1 - fp) ** rejected_D
    share_P = torch.linspace(0, 1, SHARES, dtype=torch.float64)
    right_D_P = if_right_D[:, None] * share_P
    total_D_P = right_D_P + if_wrong_D[:, None] * (1 - share_P)
    groups = int(group_D.max()) + 1 if len(group_D) else 0
    log_likelihood_G_P = torch.zeros(groups, SHARES, dtype=torch.float64).index_add(
        0, group_D, total_D_P.clamp(min=_TINY).log()
    )
    likelihood_G_P = (log_likelihood_G_P - log_likelihood_G_P.amax(1, keepdim=True)).exp()
    posterior_G_P = _normalised(prior_of_shares(likelihood_G_P) * likelihood_G_P)
    right_D = (posterior_G_P[group_D] * right_D_P / total_D_P.clamp(min=_TINY)).sum(1)
    right_B = torch.where(judged_B, right_D[index_B].to(verdicts_B.dtype), 0)
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
