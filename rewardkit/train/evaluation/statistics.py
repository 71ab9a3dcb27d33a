"""Statistics of evaluations: majority@k, confidence intervals, calibration and correlation. Needs no torch."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval, which stays within [0, 1] and holds for few trials.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Args:
        successes: The number of successes.
        trials: The number of trials. Without trials the share is NaN and the interval is [0, 1].
        confidence: The confidence level.
    """
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, squared = successes / trials, z * z
    centre = (share + squared / (2 * trials)) / (1 + squared / trials)
    half = z / (1 + squared / trials) * math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials))
    # At 0 and 1 the bound is exact; rounding must not move it.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return Estimate(share, low, 1.0 if successes == trials else min(1.0, centre + half))


def majority_at_k(
    answers: Sequence[Hashable | None], is_right: Sequence[bool], k: int, *, draws: int = 200, seed: int = 0
) -> float:
    """Return the probability that the most frequent answer among k completions of one problem is correct (self-consistency).

    Wang et al. 2022, https://arxiv.org/abs/2203.11171. Ties between answers are broken at random, and so is the choice among
    completions with the same answer that are not all correct (one may break the format). The result is exact for k = 1 and for all
    completions; otherwise it is the mean over random draws without replacement.

    Args:
        answers: The final answer of each completion; equal values mean the same answer, and None (no answer) has no vote.
        is_right: True for each correct completion.
        k: The number of votes, at most the number of completions.
        draws: The number of random draws.
        seed: The seed of the draws.

    Raises:
        ValueError: The lengths differ, or k is too large.
    """
    if len(answers) != len(is_right):
        raise ValueError(f"{len(answers)} answers but {len(is_right)} verdicts")
    if not 1 <= k <= len(answers):
        raise ValueError(
            f"majority@{k} needs at least {max(k, 1)} completions of each problem, and there are {len(answers)}"
        )
    voters = [(answer, right) for answer, right in zip(answers, is_right, strict=True) if answer is not None]
    if k == 1:
        return sum(right for _, right in voters) / len(answers)

    def share(chosen: Sequence[int]) -> float:
        """Return the share of correct completions among those with a most frequent answer."""
        votes = Counter(answers[place] for place in chosen if answers[place] is not None)
        most = max(votes.values(), default=0)
        winners = [is_right[place] for place in chosen if votes[answers[place]] == most]
        return fmean(winners) if most else 0.0  # each winning answer has as many completions

    everything = range(len(answers))
    if k == len(answers):
        return share(everything)
    generator = random.Random(seed)  # noqa: S311 - no secrets here
    return fmean(share(generator.sample(everything, k)) for _ in range(draws))


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return Pearson's correlation, from −1 to 1; NaN if either is constant or there are fewer than two values."""
    if len(xs) != len(ys):
        raise ValueError(f"{len(xs)} values can't be correlated with {len(ys)}")
    if len(xs) < 2 or min(xs) == max(xs) or min(ys) == max(ys):
        return math.nan
    off_x, off_y = _deviations(xs), _deviations(ys)
    covariance = math.fsum(x * y for x, y in zip(off_x, off_y, strict=True))
    scale = math.sqrt(math.fsum(x * x for x in off_x)) * math.sqrt(math.fsum(y * y for y in off_y))
    return max(-1.0, min(1.0, covariance / scale))


def _deviations(values: Sequence[float]) -> list[float]:
    """Return the deviations from the mean, scaled so that the largest is 1 and no square over- or underflows."""
    mean = fmean(values)
    off = [value - mean for value in values]
    greatest = max(map(abs, off))
    return [value / greatest for value in off]


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return Spearman's rank correlation, with mean ranks for ties; NaN as for ``pearson``."""
    return pearson(ranks(xs), ranks(ys))


def ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value from 0, with mean ranks for ties."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            found[order[position]] = (start + end) / 2
        start = end + 1
    return found


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The predictions with similar probabilities, and how often they were right."""

    low: float
    high: float
    count: int
    predicted: float
    """The mean probability; NaN for an empty bin."""
    observed: float
    """The share of right predictions; NaN for an empty bin."""


def reliability(probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = 10) -> list[ReliabilityBin]:
    """Return a reliability diagram with bins of equal width over [0, 1]. A probability of 1 belongs to the last bin."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, outcome in zip(probabilities, outcomes, strict=True):
        members[min(int(probability * bins), bins - 1)].append((probability, outcome))
    return [
        ReliabilityBin(
            index / bins,
            (index + 1) / bins,
            len(inside),
            fmean(probability for probability, _ in inside) if inside else math.nan,
            fmean(outcome for _, outcome in inside) if inside else math.nan,
        )
        for index, inside in enumerate(members)
    ]


def expected_calibration_error(diagram: Sequence[ReliabilityBin]) -> float:
    """Return ``Σ (count/total)·|observed − predicted|`` (https://arxiv.org/abs/1706.04599); NaN without predictions."""
    total = sum(one.count for one in diagram)
    if not total:
        return math.nan
    return math.fsum(one.count * abs(one.observed - one.predicted) for one in diagram if one.count) / total
