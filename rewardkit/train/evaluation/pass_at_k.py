"""Compares two models by pass@k, and tells elicitation (right answers became more likely) from creation (they became possible).

A problem is within reach of the base model if at least one of ``k`` samples is correct. This depends on luck: a problem that the base
model solves once in a hundred samples seems out of reach, but further samples may solve it. Three measures separate luck from
learning. One half of the base model's samples decides what is within reach, and the other half gives its accuracy there, so that two
equal models show no gain on either side. Newly solved problems are compared with those that as many further samples of the base model
would solve. All intervals come from a bootstrap over problems, which keeps the samples of a problem together because they are not
independent. All values are expectations over the choice of the halves, in closed form.

pass@k is defined in https://arxiv.org/abs/2107.03374; the question comes from https://arxiv.org/abs/2504.13837.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rewardkit.errors import DataError
from rewardkit.train.evaluation.answers import ModelAnswers
from rewardkit.train.evaluation.statistics import Estimate, majority_at_k

RESAMPLES = 2000
MOST_CLASSES = 50
ALL = "all"


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between a base and a trained model on one class of problems."""

    name: str
    problems: int
    samples: int
    """The number of samples per problem and model."""
    reach: int
    """k, the number of samples that decide what is within reach."""
    base: Sequence[Estimate]
    """pass@1 to pass@samples of the base model."""
    trained: Sequence[Estimate]
    """pass@1 to pass@samples of the trained model."""
    gain: Sequence[Estimate]
    """The mean difference (trained − base) over problems, for each k."""
    within: Estimate
    """The share of problems within reach of the base model."""
    elicited: Estimate
    """The gain in pass@1 on problems within reach."""
    created: Estimate
    """The gain in pass@1 on the other problems."""
    elicited_share: Estimate
    """The share of the whole gain that is on problems within reach."""
    new: Estimate
    """The share of problems that k samples of the trained model solve and k samples of the base model don't."""
    luck: Estimate
    """The share of problems that k samples of the base model don't solve and k further samples of it do."""
    new_beyond_luck: Estimate
    """``new`` minus ``luck``."""
    lost: Estimate
    """The share of problems that k samples of the base model solve and k samples of the trained model don't. By luck alone it equals
    ``luck``."""

    @property
    def crossover(self) -> int | None:
        """The smallest k from which the base model is ahead for all larger k; None if it never or always is."""
        behind = [estimate.value < 0 for estimate in self.gain]
        if not behind[-1] or all(behind):
            return None
        return len(behind) - behind[::-1].index(False) + 1


def compare(base: ModelAnswers, trained: ModelAnswers, classes: Mapping[int, str]) -> list[Change]:
    """Compare two models' samples of the same prompts, over all problems and for each class.

    Args:
        base: The answers of the base model.
        trained: The answers of the trained model, with as many samples per prompt.
        classes: The class of each prompt. With a single class, only the comparison over all problems is returned.

    Returns:
        The comparison over all problems, followed by that of each class.

    Raises:
        DataError: There are too many classes, or no problem whose samples could all be scored.
    """
    before, after = base.counts(), trained.counts()
    prompts = [prompt for prompt in before if prompt in after]
    if not prompts:
        raise DataError("there is no problem whose samples could all be scored for both models")
    names = sorted({classes[prompt] for prompt in prompts})
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{len(names)} classes among {len(prompts)} problems (such as {names[0]!r}) are more than {MOST_CLASSES}: choose a "
            "column that groups problems"
        )
    groups = {ALL: prompts}
    if len(names) > 1:
        groups |= {name: [prompt for prompt in prompts if classes[prompt] == name] for name in names}
    samples = before[prompts[0]][0]
    return [
        change(name, samples, [before[prompt][1] for prompt in group], [after[prompt][1] for prompt in group])
        for name, group in groups.items()
    ]


def change(name: str, samples: int, base: Sequence[int], trained: Sequence[int]) -> Change:
    """Compare two models on one class of problems.

    Args:
        name: The name of the class.
        samples: n, the number of samples per problem and model; at least 2.
        base: The number of correct samples of the base model, for each problem.
        trained: The number of correct samples of the trained model, for each problem.
    """
    n, k = samples, samples // 2
    b_P, t_P = (torch.tensor(counts, dtype=torch.float64) for counts in (base, trained))
    base_P_K, trained_P_K = pass_at_all(n, b_P), pass_at_all(n, t_P)
    failed_P = 1 - base_P_K[:, k - 1]
    solved_P = 1 - failed_P
    # The accuracy of the n − k other samples if none of the k is correct: then all correct ones are among the others.
    base_beyond_P = failed_P * b_P / (n - k)
    trained_beyond_P = failed_P * t_P / n
    created_P = trained_beyond_P - base_beyond_P
    elicited_P = (t_P / n - trained_beyond_P) - (b_P / n - base_beyond_P)
    new_P = failed_P * trained_P_K[:, k - 1]
    luck_P = base_P_K[:, 2 * k - 1] - base_P_K[:, k - 1]
    lost_P = solved_P * (1 - trained_P_K[:, k - 1])
    draws_R_P = resamples(len(base))

    def mean(values_P: Tensor, least: float = 0.0) -> Estimate:
        return estimate(draws_R_P @ values_P / len(base), len(base), least)

    def ratio(top_P: Tensor, bottom_P: Tensor) -> Estimate:
        return estimate(draws_R_P @ top_P / (draws_R_P @ bottom_P), len(base), -1.0)

    return Change(
        name,
        len(base),
        n,
        k,
        base=[mean(column) for column in base_P_K.T],
        trained=[mean(column) for column in trained_P_K.T],
        gain=[mean(column, -1.0) for column in (trained_P_K - base_P_K).T],
        within=mean(solved_P),
        elicited=ratio(elicited_P, solved_P),
        created=ratio(created_P, failed_P),
        elicited_share=ratio(elicited_P, elicited_P + created_P),
        new=mean(new_P),
        luck=mean(luck_P),
        new_beyond_luck=mean(new_P - luck_P, -1.0),
        lost=mean(lost_P),
    )


def pass_at_all(samples: int, right_P: Tensor) -> Tensor:
    """Return the unbiased pass@1 to pass@n of each problem, of shape (P, n): ``1 − C(n−c, k)/C(n, k)`` as a running product over k."""
    taken_K = torch.arange(samples, dtype=torch.float64)
    return 1 - ((samples - right_P[:, None] - taken_K) / (samples - taken_K)).clamp(min=0).cumprod(1)


def resamples(problems: int, seed: int = 0) -> Tensor:
    """Return how often each problem is drawn in each resample, of shape (1 + RESAMPLES, P). In the first row each is drawn once."""
    generator = torch.Generator().manual_seed(seed)
    drawn_R_P = torch.randint(problems, (RESAMPLES, problems), generator=generator)
    counts_R_P = torch.zeros(RESAMPLES, problems, dtype=torch.float64)
    counts_R_P.scatter_add_(1, drawn_R_P, torch.ones_like(counts_R_P))
    return torch.cat([torch.ones(1, problems, dtype=torch.float64), counts_R_P])


def estimate(values_R: Tensor, problems: int, least: float = 0.0) -> Estimate:
    """Return a value and its 95 % interval from its values on resamples.

    The bootstrap only knows the problems that it has seen: if all of 20 are solved, its interval has no width. But a kind of problem that
    makes up ``1 − 0.025^(1/20)`` = 17 % of all problems may be missing by chance. The interval of a share is widened to allow for this;
    that of a difference only if all problems have the same value.

    Args:
        values_R: The value on each resample. The first one is on the problems themselves.
        problems: The number of problems.
        least: The smallest possible value: 0 for a share, −1 for a difference.
    """
    value = float(values_R[0])
    drawn_R = values_R[1:][values_R[1:].isfinite()]
    if not math.isfinite(value) or not len(drawn_R):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = torch.quantile(drawn_R, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    unseen = 1 - 0.025 ** (1 / problems)
    if least == 0.0:
        low, high = min(low, value - unseen * value), max(high, value + unseen * (1 - value))
    elif high - low < 1e-12:
        low, high = max(value - unseen, least), min(value + unseen, 1.0)
    return Estimate(value, low, high)


def passes(model_answers: ModelAnswers, ks: Sequence[int]) -> dict[int, Estimate]:
    """Return pass@k of one model over the problems whose samples could all be scored."""
    counts = list(model_answers.counts().values())
    if not counts:
        return {}
    passes_P_K = pass_at_all(counts[0][0], torch.tensor([right for _, right in counts], dtype=torch.float64))
    draws_R_P = resamples(len(counts))
    return {k: estimate(draws_R_P @ passes_P_K[:, k - 1] / len(counts), len(counts)) for k in ks}


def greedy_gain(base: ModelAnswers, trained: ModelAnswers) -> Estimate | None:
    """Return the difference in greedy accuracy over the problems whose greedy answers could both be scored; None if there are none."""
    before, after = (
        {answer.prompt: answer.right for answer in model_answers.greedy} for model_answers in (base, trained)
    )
    gains = [
        float(after[prompt] or 0) - float(right)
        for prompt, right in before.items()
        if right is not None and after.get(prompt) is not None
    ]
    if not gains:
        return None
    return estimate(resamples(len(gains)) @ torch.tensor(gains, dtype=torch.float64) / len(gains), len(gains), -1.0)


def majorities(model_answers: ModelAnswers, ks: Sequence[int]) -> dict[int, Estimate]:
    """Return majority@k of one model over the same problems; empty if no sample has a final answer."""
    if not any(answer.answer is not None for answer in model_answers.answers):
        return {}
    samples = model_answers.by_prompt
    chosen = [samples[prompt] for prompt in model_answers.counts()]
    if not chosen:
        return {}
    draws_R_P = resamples(len(chosen))
    found = {}
    for k in ks:
        values = [
            majority_at_k([one.answer for one in answers], [bool(one.right) for one in answers], k)
            for answers in chosen
        ]
        values_P = torch.tensor(values, dtype=torch.float64)
        found[k] = estimate(draws_R_P @ values_P / len(values), len(values))
    return found


def shown_ks(samples: int) -> list[int]:
    """Return the powers of 2 up to the number of samples, and that number."""
    powers = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    return sorted({*powers, samples}) if samples else []


def plain(found: Any) -> Any:
    """Return JSON data, with estimates as [value, low, high] and null for values that are not finite."""
    if isinstance(found, Estimate):
        return [plain(item) for item in (found.value, found.low, found.high)]
    if isinstance(found, float):
        return found if math.isfinite(found) else None
    if isinstance(found, Mapping):
        return {str(key): plain(item) for key, item in found.items()}
    return [plain(item) for item in found] if isinstance(found, list | tuple) else found
