"""From rewards to advantages: how much better a completion was than its prompt's others.

Rows without a score leave their group before any mean or spread is taken, and get 0. A group whose rewards are all alike
says nothing, so its rows get exactly 0; that is told by ``max − min <= tolerance``, because the standard deviation of equal
floats need not be 0, and dividing by such noise makes huge advantages.

B is the number of completions of a whole batch: there are few, so callers keep these tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardkit.train.config.rl import AdvantageKind
from rewardkit.train.losses.masked_statistics import whiten

FLAT_TOLERANCE = 1e-6
"""Rewards of a group that differ by no more than this count as equal."""


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """Statistics of each row's group, repeated for each of its rows. Only scored rows are counted."""

    scored_B: Tensor
    """bool. True: the row has a score and takes part."""
    count_B: Tensor
    """int64. Scored rows in the row's group."""
    mean_B: Tensor
    """Mean reward; 0 where no row of the group is scored."""
    std_B: Tensor
    """Bessel-corrected standard deviation; 0 for fewer than two scored rows."""
    spread_B: Tensor
    """``max − min``; 0 where fewer than two rows are scored."""

    def is_flat_B(self, tolerance: float = FLAT_TOLERANCE) -> Tensor:
        """True where the row's group has no spread: nothing can be learned from it. Shape: (B,)."""
        return self.spread_B <= tolerance


def group_statistics(rewards_B: Tensor, groups_B: Tensor, scored_B: Tensor | None = None) -> GroupStatistics:
    """Count, mean, standard deviation and spread of each row's group.

    Args:
        rewards_B: Rewards; anything, even NaN, where a row is not scored.
        groups_B: Integers; equal for completions of one prompt. Groups may have different sizes and stand in any order.
        scored_B: True where the row has a score; by default everywhere.

    Raises:
        ValueError: A scored row's reward is not finite.
    """
    scored_B = torch.ones_like(groups_B, dtype=torch.bool) if scored_B is None else scored_B
    rewards_B = torch.where(scored_B, rewards_B, 0)
    if not bool(torch.isfinite(rewards_B).all()):
        row = int((~torch.isfinite(rewards_B)).nonzero()[0])
        raise ValueError(
            f"the reward of row {row} is {float(rewards_B[row])}; a row without a reward must be marked unscored"
        )
    names, index_B = torch.unique(groups_B, return_inverse=True)
    empty_G = rewards_B.new_zeros(len(names))
    count_G = torch.zeros_like(names, dtype=torch.int64).index_add(0, index_B, scored_B.long())
    mean_G = empty_G.index_add(0, index_B, rewards_B) / count_G.clamp(min=1)
    squares_B = torch.where(scored_B, rewards_B - mean_G[index_B], 0).square()
    std_G = (empty_G.index_add(0, index_B, squares_B) / (count_G - 1).clamp(min=1)).sqrt()
    infinity = torch.tensor(torch.inf, dtype=rewards_B.dtype)
    highest_G = empty_G.scatter_reduce(0, index_B, rewards_B.where(scored_B, -infinity), "amax", include_self=False)
    lowest_G = empty_G.scatter_reduce(0, index_B, rewards_B.where(scored_B, infinity), "amin", include_self=False)
    spread_G = torch.where(count_G > 1, highest_G - lowest_G, 0)
    return GroupStatistics(scored_B, count_G[index_B], mean_G[index_B], std_G[index_B], spread_G[index_B])


def group_std(rewards_B: Tensor, groups: GroupStatistics, *, eps: float = 1e-4) -> Tensor:
    """GRPO (https://arxiv.org/abs/2402.03300): ``(R − mean_g) / (std_g + eps)``. eps as in TRL; verl has 1e-6. Shape: (B,)."""
    return _informative(groups, (rewards_B - groups.mean_B) / (groups.std_B + eps))


def no_std(rewards_B: Tensor, groups: GroupStatistics, *, eps: float = 0.0) -> Tensor:  # noqa: ARG001 - one signature
    """Dr. GRPO (https://arxiv.org/abs/2503.20783): ``R − mean_g``. Shape: (B,)."""
    return _informative(groups, rewards_B - groups.mean_B)


def batch_std(rewards_B: Tensor, groups: GroupStatistics, *, eps: float = 1e-4) -> Tensor:
    """``(R − mean_g) / (std of all scored rewards of the batch + eps)`` (https://arxiv.org/abs/2508.08221). Shape: (B,)."""
    scored = rewards_B[groups.scored_B]
    std = scored.std() if len(scored) > 1 else scored.new_zeros(())
    return _informative(groups, (rewards_B - groups.mean_B) / (std + eps))


def rloo(rewards_B: Tensor, groups: GroupStatistics, *, eps: float = 0.0) -> Tensor:  # noqa: ARG001 - one signature
    """RLOO (https://arxiv.org/abs/2402.14740): ``R_i − (S − R_i)/(n − 1)`` with S the group's sum. Shape: (B,)."""
    count_B = groups.count_B
    baseline_B = (groups.mean_B * count_B - rewards_B) / (count_B - 1).clamp(min=1)
    return _informative(groups, rewards_B - baseline_B)


ADVANTAGES: Mapping[AdvantageKind, Callable[..., Tensor]] = {
    "group_std": group_std,
    "batch_std": batch_std,
    "none": no_std,
    "rloo": rloo,
}
"""By the name that a configuration gives: ``ADVANTAGES[kind](rewards_B, groups, eps=…)``."""


def _informative(groups: GroupStatistics, advantages_B: Tensor) -> Tensor:
    return torch.where(groups.scored_B & ~groups.is_flat_B(), advantages_B, 0)


def reinforce_pp(rewards_B_T: Tensor, loss_mask_B_T: Tensor, *, gamma: float = 1.0) -> Tensor:
    """REINFORCE++ (https://arxiv.org/abs/2501.03262): the discounted reward to come, whitened over all tokens of the batch.

    Args:
        rewards_B_T: Reward of each token, with the KL penalty in it (see ``kl.token_rewards``).
        loss_mask_B_T: True: counts. The return is carried across tokens that do not count, and is 0 on them.
        gamma: Discount per token that counts.

    Returns:
        Advantages, (B, T).
    """
    running_B = rewards_B_T.new_zeros(len(rewards_B_T))
    returns_B_T = torch.zeros_like(rewards_B_T)
    for t in reversed(range(rewards_B_T.shape[1])):
        running_B = torch.where(loss_mask_B_T[:, t], rewards_B_T[:, t] + gamma * running_B, running_B)
        returns_B_T[:, t] = running_B
    return whiten(returns_B_T, loss_mask_B_T)


def reinforce_pp_baseline(rewards_B: Tensor, groups: GroupStatistics, loss_mask_B_T: Tensor) -> Tensor:
    """REINFORCE++-baseline: ``R − mean_g`` on every token of its row, whitened over all tokens of the batch.

    Rows without a score are left out of the whitening and get 0. Rows of flat groups are part of it, as in verl.

    Returns:
        Advantages, (B, T).
    """
    counts_B_T = loss_mask_B_T & groups.scored_B[:, None]
    centred_B = torch.where(groups.scored_B, rewards_B - groups.mean_B, 0)
    return whiten(centred_B[:, None].expand(loss_mask_B_T.shape), counts_B_T)


def process_advantages(
    steps_B_S: Tensor,
    step_mask_B_S: Tensor,
    step_of_token_B_T: Tensor,
    groups_B: Tensor,
    *,
    to_come: bool = True,
    eps: float = 1e-4,
) -> Tensor:
    """Advantages of tokens from process rewards (DeepSeekMath, https://arxiv.org/abs/2402.03300, section 4.1.3).

    The rewards of all steps of all completions of a group are normalised together by their mean and standard deviation.
    A token's advantage is the sum of the normalised rewards of its own step and those after it.

    Args:
        steps_B_S: One reward per step (``Score.steps``), padded to the longest.
        step_mask_B_S: True where there is such a step. A row without a score has none.
        step_of_token_B_T: Which step a token belongs to, from 0; −1 for none (padding, tool output).
        groups_B: As for ``group_statistics``.
        to_come: False gives a token the reward of its own step alone.
        eps: Added to the standard deviation.

    Returns:
        Advantages, (B, T); 0 on tokens of no step, and where all steps of a group are alike.
    """
    rows, columns = steps_B_S.shape
    flat_groups = groups_B[:, None].expand(rows, columns).reshape(-1)
    statistics = group_statistics(steps_B_S.reshape(-1), flat_groups, step_mask_B_S.reshape(-1))
    normalised_B_S = group_std(steps_B_S.reshape(-1), statistics, eps=eps).reshape(rows, columns)
    if to_come:
        normalised_B_S = normalised_B_S.flip(1).cumsum(1).flip(1)
    if bool((step_of_token_B_T >= step_mask_B_S.sum(1, keepdim=True)).any()):
        raise ValueError("a token belongs to a step that its row has no reward for")
    gathered_B_T = normalised_B_S.gather(1, step_of_token_B_T.clamp(min=0))
    return torch.where(step_of_token_B_T >= 0, gathered_B_T, 0)


def component_shares(contributions_C_B: Tensor, rewards_B: Tensor, groups: GroupStatistics) -> Tensor:
    """Return each component's share of the within-group variance of the reward.

    ``Σ_B (c − mean_g c)(R − mean_g R) / Σ_B (R − mean_g R)²``: the shares add up to 1 where the reward is the sum of the
    contributions. A negative share works against the others. All 0 where no group has spread.

    Args:
        contributions_C_B: What each component adds to the reward; anything in rows without a score.
        rewards_B: The rewards.
        groups: Of the rewards.

    Returns:
        Shares, (C,).
    """
    centred_B = torch.where(groups.scored_B, rewards_B - groups.mean_B, 0)
    total = centred_B.square().sum()
    contributions_C_B = torch.where(groups.scored_B, contributions_C_B, 0)
    # The group mean of c need not be taken: the centred rewards of a group sum to 0.
    return torch.where(
        total > 0, (contributions_C_B * centred_B).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny), 0
    )
