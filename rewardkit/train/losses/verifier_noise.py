"""Correction for a verifier that errs at known rates.

A verifier accepts a wrong completion with the rate ``fp`` and rejects a right one with the rate ``fn``, independently of everything
else. This is the reward channel of https://arxiv.org/abs/2510.00915, which derives two corrections of the policy gradient. Its backward
correction is an affine transformation of the rewards, and so cancels out of advantages that are normalised within a group. Here the
channel is modelled forward: the share of right completions of a group is estimated from the share that the verifier accepted, and each
verdict is replaced by the probability that the completion is right. In a group where almost all are right, a rejected completion is
then known to be right with high probability, instead of getting the largest negative advantage of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewardkit.train.losses.advantages import GroupStatistics, group_statistics


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

    With the accepted share a of a group, ``p = clip((a − fp) / (1 − fp − fn), 0, 1)`` of its completions are right. By Bayes' rule an
    accepted completion is right with probability ``p (1 − fn) / (p (1 − fn) + (1 − p) fp)``, and a rejected one with probability
    ``p fn / (p fn + (1 − p) (1 − fp))``. Where both rates are 0, the probabilities are the verdicts.

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
    observed = group_statistics(verdicts_B, groups_B, judged_B)
    p_B = ((observed.mean_B - fp) / (1 - fp - fn)).clamp(0, 1)
    right_B = torch.where(verdicts_B == 1, _posterior(p_B, 1 - fn, fp), _posterior(p_B, fn, 1 - fp))
    right_B = torch.where(judged_B, right_B, 0)
    unresolved = group_statistics(right_B * (1 - right_B), groups_B, judged_B)
    bessel_B = unresolved.count_B / (unresolved.count_B - 1).clamp(min=1)
    return ExpectedVerdicts(right_B, unresolved.mean_B * bessel_B)


def _posterior(p_B: Tensor, if_right: float, if_wrong: float) -> Tensor:
    """Return the probability of a right completion after a verdict with these probabilities; p where the verdict is impossible."""
    right_B, wrong_B = p_B * if_right, (1 - p_B) * if_wrong
    total_B = right_B + wrong_B
    return torch.where(total_B > 0, right_B / total_B.clamp(min=torch.finfo(p_B.dtype).tiny), p_B)
