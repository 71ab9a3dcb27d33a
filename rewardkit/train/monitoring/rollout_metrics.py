"""Computes the metrics of a batch of scored completions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

import torch

from rewardkit.train.evaluation.statistics import pearson
from rewardkit.train.losses.advantages import component_shares, group_statistics
from rewardkit.train.rollout.generate import Sample
from rewardkit.train.rollout.verdicts import Verdicts
from rewardkit.types import NotApplicable, Score, Skipped, Unscored

FEWEST_PAIRS = 8
"""With fewer completions scored for another prompt, ``prompt_independence`` is not measured."""


DISAGREEMENT = "disagreement"
"""The metric of a score that says by how much the models of an ensemble differ. It grows where training finds a weakness of one of them."""


def rewards(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the metrics of the completions as a whole: reward, spread, length, truncation, repetition.

    ``frac_reward_zero_std`` is left out if no prompt has two completions.
    """
    if not samples:
        return {}
    values = [sample.scored.reward for sample in samples if sample.scored.reward is not None]
    lengths = [len(sample.completion.written) for sample in samples]
    scored = [sample for sample in samples if sample.scored.reward is not None]
    groups = _groups(samples)
    return {
        "reward": fmean(values) if values else float("nan"),
        "reward_std": pstdev(values) if values else float("nan"),
        **({"frac_reward_zero_std": _frac_zero_std(samples)} if _has_groups(samples) else {}),
        "unscored": 1 - len(values) / len(samples),
        "length": fmean(lengths),
        "truncated": fmean(sample.completion.finish_reason == "length" for sample in samples),
        "duplicates": duplicates(samples),
        "copied": copied(samples),
        "repetition": fmean(repetition(sample.completion.written) for sample in samples),
        "length_correlation": _correlation(scored),
        "groups": float(len(groups)),
    }


def components(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the metrics of each component: mean, standard deviation, spread, share of the training signal, unscored completions.

    ``advantage_share`` is the component's share of the within-group reward variance. It and ``frac_reward_zero_std`` are left out if
    no prompt has two completions.
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
        measured = [outcome.metrics for outcome in outcomes if isinstance(outcome, Score) and outcome.metrics]
        if doubts := [metrics[DISAGREEMENT] for metrics in measured if DISAGREEMENT in metrics]:
            result[f"component/{name}/{DISAGREEMENT}"] = fmean(doubts)
        if shares is not None:
            result[f"component/{name}/frac_reward_zero_std"] = _component_frac_zero_std(samples, name)
            result[f"component/{name}/advantage_share"] = shares[name]
        for word, without in (("skipped", Skipped), ("not_applicable", NotApplicable)):
            if count := sum(isinstance(outcome, without) for outcome in outcomes):
                result[f"component/{name}/{word}"] = count / len(outcomes)
        for kind, count in Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Unscored)).items():
            result[f"component/{name}/unscored_{kind}"] = count / len(outcomes)
    return result


def staleness(samples: Sequence[Sample], step: int) -> dict[str, float]:
    """Return how many training steps older than the policy the weights were that wrote the tokens, on average.

    Args:
        samples: The completions. Those without versions are left out.
        step: The number of finished training steps.
    """
    ages = [
        step - version
        for sample in samples
        if sample.completion.versions is not None
        for version, is_written in zip(
            sample.completion.versions, sample.completion.mask or [True] * len(sample.completion.versions), strict=True
        )
        if is_written
    ]
    return {"staleness": fmean(ages)} if ages else {}


def duplicates(samples: Sequence[Sample]) -> float:
    """Return the share of completions, beyond the first of each prompt, that their prompt already got."""
    distinct = len({(sample.group, sample.completion.written) for sample in samples})
    further = len(samples) - len(_groups(samples))
    return (len(samples) - distinct) / further if further else 0.0


def copied(samples: Sequence[Sample]) -> float:
    """Return the share of completions that another prompt got as well."""
    groups: dict[tuple[int, ...], set[int]] = {}
    for sample in samples:
        groups.setdefault(sample.completion.written, set()).add(sample.group)
    return fmean(len(groups[sample.completion.written]) > 1 for sample in samples)


def repetition(tokens: Sequence[int], run: int = 4) -> float:
    """Return the share of a completion's n-grams that occur earlier in it.

    Args:
        tokens: The completion.
        run: The length n.
    """
    runs = [tuple(tokens[start : start + run]) for start in range(len(tokens) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def record(sample: Sample) -> dict[str, Any]:
    """Return a completion with its scores as JSON data, for ``samples.jsonl``."""
    scored = sample.scored
    return {
        "prompt": sample.scored.rollout.prompt,
        "completion": sample.scored.rollout.completion,
        "reward": scored.reward,
        "finish_reason": sample.completion.finish_reason,
        "tokens": len(sample.completion.written),
        "components": {
            name: {"value": outcome.value, "reason": outcome.reason}
            if isinstance(outcome, Score)
            else {"value": None, "reason": outcome.message if isinstance(outcome, Unscored) else outcome.reason}
            for name, outcome in scored.outcomes.items()
        },
    }


def prompt_independence(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return how well completions' rewards agree with the rewards that the same completions get for another prompt.

    ``1 − mean((R − R')²) / (2 · variance)``, with the variance of all R and R' together, and 0 where this is negative. This is the
    concordance correlation of Lin (1989) with one mean and one variance for both. 1: the reward does not depend on the prompt.

    Args:
        pairs: For each completion, the reward for its own prompt and that for another prompt.

    Returns:
        The metric, or nothing if there are fewer than ``FEWEST_PAIRS`` pairs, or if all rewards are equal.
    """
    values = [value for pair in pairs for value in pair]
    variance = pstdev(values) ** 2 if values else 0.0
    if len(pairs) < FEWEST_PAIRS or variance == 0:
        return {}
    return {"prompt_independence": max(1 - fmean((one - other) ** 2 for one, other in pairs) / (2 * variance), 0.0)}


def further_verdicts(verdicts: Verdicts | None) -> dict[str, float]:
    """Return how many verdicts a verifier that errs gave when it was asked again, or nothing if it was not."""
    if verdicts is None or verdicts.further_B_2 is None:
        return {}
    return {"further_verdicts": float(verdicts.further_B_2.sum())}


def _groups(samples: Sequence[Sample]) -> set[int]:
    return {sample.group for sample in samples}


def _has_groups(samples: Sequence[Sample]) -> bool:
    """Return whether any prompt has two completions."""
    return len(samples) > len(_groups(samples))


def _frac_zero_std(samples: Sequence[Sample]) -> float:
    """Return the share of groups whose rewards are all equal."""
    return _frac_flat_groups([sample.scored.reward for sample in samples], [sample.group for sample in samples])


def _component_frac_zero_std(samples: Sequence[Sample], name: str) -> float:
    values = [
        outcome.value if isinstance(outcome := sample.scored.outcomes[name], Score) else None for sample in samples
    ]
    return _frac_flat_groups(values, [sample.group for sample in samples])


def _frac_flat_groups(values: Sequence[float | None], groups: Sequence[int]) -> float:
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
        [len(sample.completion.written) for sample in scored], [sample.scored.reward or 0.0 for sample in scored]
    )
    return value if value == value else 0.0  # noqa: PLR0124 - NaN if all lengths or all rewards are equal
