"""Figures of a batch of scored completions, for the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

import torch

from rewardkit.train.evaluation.statistics import pearson
from rewardkit.train.losses.advantages import component_shares, group_statistics
from rewardkit.train.rollout.generate import Sample
from rewardkit.types import Score, Skipped, Unscored


def rewards(samples: Sequence[Sample]) -> dict[str, float]:
    """Of the completions as a whole: reward, spread, length, what was cut off or is there twice.

    Where no prompt has two completions, there is nothing to tell of spread within groups.
    """
    if not samples:
        return {}
    values = [sample.scored.reward for sample in samples if sample.scored.reward is not None]
    lengths = [len(sample.completion.tokens) for sample in samples]
    scored = [sample for sample in samples if sample.scored.reward is not None]
    groups = _groups(samples)
    return {
        "reward": fmean(values) if values else float("nan"),
        "reward_std": pstdev(values) if values else float("nan"),
        **({"frac_reward_zero_std": _share_flat(samples)} if _has_groups(samples) else {}),
        "unscored": 1 - len(values) / len(samples),
        "length": fmean(lengths),
        "truncated": fmean(sample.completion.finish_reason == "length" for sample in samples),
        "duplicates": duplicates(samples),
        "copied": copied(samples),
        "repetition": fmean(repetition(sample.completion.tokens) for sample in samples),
        "length_correlation": _correlation(scored),
        "groups": float(len(groups)),
    }


def components(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each component: mean, standard deviation, share of groups without spread, share of the advantage, what is unscored.

    The share of the advantage is that of the within-group variance of the reward, which is what advantages are made of; like the
    share of groups, it is left out where no prompt has two completions.
    """
    if not samples:
        return {}
    names = list(samples[0].scored.outcomes)
    result: dict[str, float] = {}
    shares = _shares(samples, names) if _has_groups(samples) else None
    for name in names:
        outcomes = [sample.scored.outcomes[name] for sample in samples]
        values = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
        if values:
            result[f"component/{name}"] = fmean(values)
            result[f"component/{name}/std"] = pstdev(values)
        if shares is not None:
            result[f"component/{name}/frac_reward_zero_std"] = _component_flat(samples, name)
            result[f"component/{name}/advantage_share"] = shares[name]
        skipped = sum(isinstance(outcome, Skipped) for outcome in outcomes)
        if skipped:
            result[f"component/{name}/skipped"] = skipped / len(outcomes)
        for kind, count in Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Unscored)).items():
            result[f"component/{name}/unscored_{kind}"] = count / len(outcomes)
    return result


def duplicates(samples: Sequence[Sample]) -> float:
    """Share of completions that their own prompt was given before, the first of each prompt left aside: 1 where all groups are of one."""
    distinct = len({(sample.group, sample.completion.tokens) for sample in samples})
    further = len(samples) - len(_groups(samples))
    return (len(samples) - distinct) / further if further else 0.0


def copied(samples: Sequence[Sample]) -> float:
    """Share of completions that some other prompt was given as well."""
    groups: dict[tuple[int, ...], set[int]] = {}
    for sample in samples:
        groups.setdefault(sample.completion.tokens, set()).add(sample.group)
    return fmean(len(groups[sample.completion.tokens]) > 1 for sample in samples)


def repetition(tokens: Sequence[int], run: int = 4) -> float:
    """Share of a completion's runs of tokens that occurred in it before; 0 where it is too short for any."""
    runs = [tuple(tokens[start : start + run]) for start in range(len(tokens) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def record(sample: Sample) -> dict[str, Any]:
    """A completion with its scores, as it is kept to be looked at."""
    scored = sample.scored
    return {
        "prompt": sample.scored.rollout.prompt,
        "completion": sample.scored.rollout.completion,
        "reward": scored.reward,
        "finish_reason": sample.completion.finish_reason,
        "tokens": len(sample.completion.tokens),
        "components": {
            name: {"value": outcome.value, "reason": outcome.reason}
            if isinstance(outcome, Score)
            else {"value": None, "reason": outcome.reason if isinstance(outcome, Skipped) else outcome.message}
            for name, outcome in scored.outcomes.items()
        },
    }


def _groups(samples: Sequence[Sample]) -> set[int]:
    return {sample.group for sample in samples}


def _has_groups(samples: Sequence[Sample]) -> bool:
    """Whether any prompt has two completions, which can be compared."""
    return len(samples) > len(_groups(samples))


def _share_flat(samples: Sequence[Sample]) -> float:
    """Share of groups whose scored rewards are all alike."""
    return _flat([sample.scored.reward for sample in samples], [sample.group for sample in samples])


def _component_flat(samples: Sequence[Sample], name: str) -> float:
    values = [
        outcome.value if isinstance(outcome := sample.scored.outcomes[name], Score) else None for sample in samples
    ]
    return _flat(values, [sample.group for sample in samples])


def _flat(values: Sequence[float | None], groups: Sequence[int]) -> float:
    statistics = group_statistics(
        torch.tensor([value or 0.0 for value in values]),
        torch.tensor(groups),
        torch.tensor([value is not None for value in values]),
    )
    flat = dict(zip(groups, statistics.is_flat_B().tolist(), strict=True))
    return fmean(flat.values())


def _shares(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, float]:
    scored = [sample for sample in samples if sample.scored.reward is not None]
    if not scored:
        return dict.fromkeys(names, 0.0)
    rewards_B = torch.tensor([sample.scored.reward or 0.0 for sample in scored])
    contributions_C_B = torch.tensor(
        [[sample.scored.contributions.get(name) or 0.0 for sample in scored] for name in names]
    )
    groups = group_statistics(rewards_B, torch.tensor([sample.group for sample in scored]))
    return dict(zip(names, component_shares(contributions_C_B, rewards_B, groups).tolist(), strict=True))


def _correlation(scored: Sequence[Sample]) -> float:
    value = pearson(
        [len(sample.completion.tokens) for sample in scored], [sample.scored.reward or 0.0 for sample in scored]
    )
    return value if value == value else 0.0  # noqa: PLR0124 - NaN where either does not vary
