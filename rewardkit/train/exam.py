"""Examines trained models on held-out prompts: greedy and sampled accuracy, pass@k, majority@k, and what training changed.

The question behind a comparison is whether training made answers likelier that the base model could give already (elicitation),
or made answers reachable that it could not give (creation); https://arxiv.org/abs/2504.13837. A problem counts as within reach
of a model if any of its samples is right, so the verdict depends on how many samples are drawn, and they are told with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.errors import ConfigError
from rewardkit.train.config import RlConfig
from rewardkit.train.engines.base import Sampling
from rewardkit.train.engines.hf import HfEngine
from rewardkit.train.evaluate import Evaluation, correct_condition, evaluate, is_correct
from rewardkit.train.math.metrics import Estimate, bootstrap, majority_at_k, wilson
from rewardkit.train.policy import Policy
from rewardkit.train.rl import load_prompts
from rewardkit.train.rollouts import Sample
from rewardkit.train.stages import TrainFile


@dataclass(frozen=True, slots=True)
class Exam:
    """What one model achieved."""

    model: str
    greedy: Evaluation
    sampled: Evaluation | None
    """None where only greedy answers were asked for."""

    def summary(self, ks: Sequence[int], answer: str | None) -> dict[str, Any]:
        """All figures as JSON data; accuracies with 95 % intervals."""
        result: dict[str, Any] = {
            "model": self.model,
            "greedy": {**self.greedy.summary(), "accuracy": _interval(self.greedy.accuracy())},
        }
        if self.sampled is not None:
            result["sampled"] = {
                **self.sampled.summary(),
                "accuracy": _interval(_over_prompts(self.sampled)),
                "pass_at": {str(k): _interval(estimate) for k, estimate in self.sampled.pass_at(ks).items()},
                "majority_at": {str(k): _interval(found) for k in ks if (found := majority(self.sampled, k, answer))},
            }
        return result


def examine(
    file: TrainFile, models: Sequence[str | None], samples: int, say: Callable[[str], None] = lambda _text: None
) -> list[Exam]:
    """Let models answer the held-out prompts of a configuration, one model after the other.

    Args:
        file: The configuration of a stage that has a reward: its model section, data.eval, rollout and evaluate are read.
        models: Folders or hub names put in the place of the configuration's model; None stands for its own.
        samples: Sampled completions of each prompt; 0: only greedy ones.
        say: Told what is going on.

    Raises:
        ConfigError: The configuration has no held-out data, no condition for what is right, or names no such model.
    """
    config = file.config
    if not isinstance(config, RlConfig) or file.reward is None:
        raise ConfigError(
            (file.where("stage"), "an evaluation needs the configuration of a stage that has a reward, such as grpo")
        )
    if config.data.eval is None:
        raise ConfigError((file.where("data"), "data.eval is missing: there is nothing to evaluate on"))
    if config.evaluate.correct is None:
        raise ConfigError(
            (file.where("evaluate"), 'evaluate.correct is missing: say what counts as right, as "correct == 1"')
        )
    condition = correct_condition(
        config.evaluate.correct, file.reward.component_names, file.where("evaluate", "correct")
    )
    drawn = Sampling(
        config.rollout.max_new_tokens,
        config.rollout.temperature,
        config.rollout.top_p,
        config.rollout.top_k,
        tuple(config.rollout.stop),
    )
    exams = []
    with CompositeReward(file.reward, registry=file.registry, workers=config.reward_workers) as reward:
        for model in models:
            section = config.model if model is None else config.model.model_copy(update={"path": model, "lora": None})
            policy = Policy.load(section, None if model else file.where("model", "path"))
            prompts = load_prompts(config, policy, reward, config.data.eval)[: config.evaluate.limit]
            engine = HfEngine(policy, max(config.rollout.batch, samples))
            say(f"{section.path}: {len(prompts)} prompts, greedy")
            greedy = evaluate(
                policy,
                engine,
                reward,
                prompts,
                replace(drawn, temperature=0.0, top_p=1.0, top_k=0),
                condition=condition,
            )
            sampled = None
            if samples:
                say(f"{section.path}: {len(prompts)} prompts × {samples}, temperature {drawn.temperature:g}")
                sampled = evaluate(
                    policy, engine, reward, prompts, drawn, condition=condition, samples=samples, seed=config.seed
                )
            exams.append(Exam(section.path, greedy, sampled))
    return exams


def majority(evaluation: Evaluation, k: int, answer: str | None) -> Estimate | None:
    """majority@k over prompts, with a bootstrap interval; None without a pattern for answers or with fewer samples."""
    if answer is None or evaluation.condition is None:
        return None
    values = []
    for samples in by_prompt(evaluation).values():
        verdicts = [is_correct(sample.scored, evaluation.condition) for sample in samples]
        scored = [
            (extracted(sample, answer), bool(right))
            for sample, right in zip(samples, verdicts, strict=True)
            if right is not None
        ]
        if len(scored) < k:
            return None
        values.append(majority_at_k([item for item, _ in scored], [right for _, right in scored], k))
    return bootstrap(values, fmean)


def extracted(sample: Sample, pattern: str) -> str | None:
    """The last match of a pattern in a completion: its first group, if it has one."""
    matches = list(re.finditer(pattern, sample.scored.rollout.completion_text))
    return (matches[-1][1] if matches[-1].re.groups else matches[-1][0]) if matches else None


def by_prompt(evaluation: Evaluation) -> dict[int, list[Sample]]:
    """Completions of each prompt."""
    result: dict[int, list[Sample]] = {}
    for sample in evaluation.samples:
        result.setdefault(sample.group, []).append(sample)
    return result


@dataclass(frozen=True, slots=True)
class Change:
    """What training did to one class of problems."""

    name: str
    problems: int
    base: Estimate
    """Mean share of right samples before …"""
    trained: Estimate
    """… and after."""
    elicited: int
    """Problems within reach of the base model that are answered right more often now."""
    kept: int
    """Within reach of both, and not right more often."""
    created: int
    """Problems that no sample of the base model solved, and some of the trained model do."""
    lost: int
    """Within reach of the base model, and solved by no sample of the trained one."""
    beyond: int
    """Solved by neither."""

    @property
    def creation(self) -> Estimate:
        """Share of the problems out of the base model's reach that came within reach (95 %, Wilson)."""
        return wilson(self.created, self.created + self.beyond)


def compare(base: Exam, trained: Exam, by: str | None = None) -> list[Change]:
    """Hold two models' samples of the same prompts against each other.

    Args:
        base: Before training.
        trained: After it.
        by: A field of the rows that tells the class of a problem; by default all are one class.
    """
    assert base.sampled is not None  # noqa: S101 - the caller has drawn samples
    assert trained.sampled is not None  # noqa: S101
    before, after = _rights(base.sampled), _rights(trained.sampled)
    names = {
        group: str(samples[0].prompt.fields.get(by, "(none)")) if by else "all"
        for group, samples in by_prompt(base.sampled).items()
    }
    classes = sorted(set(names.values()))
    return [
        _change(
            name,
            [
                (before[group], after[group])
                for group in names
                if names[group] == name and group in before and group in after
            ],
        )
        for name in classes
    ]


def _change(name: str, pairs: Sequence[tuple[list[bool], list[bool]]]) -> Change:
    shares = [(fmean(before), fmean(after)) for before, after in pairs]
    return Change(
        name,
        len(pairs),
        bootstrap([before for before, _ in shares], fmean),
        bootstrap([after for _, after in shares], fmean),
        elicited=sum(0 < before < after for before, after in shares),
        kept=sum(before > 0 and 0 < after <= before for before, after in shares),
        created=sum(before == 0 and after > 0 for before, after in shares),
        lost=sum(before > 0 and after == 0 for before, after in shares),
        beyond=sum(before == 0 and after == 0 for before, after in shares),
    )


def _rights(evaluation: Evaluation) -> dict[int, list[bool]]:
    """Verdicts of each prompt; what could not be scored is left out, and so are prompts without any verdict."""
    assert evaluation.condition is not None  # noqa: S101 - examine requires one
    found = {
        group: [right for sample in samples if (right := is_correct(sample.scored, evaluation.condition)) is not None]
        for group, samples in by_prompt(evaluation).items()
    }
    return {group: verdicts for group, verdicts in found.items() if verdicts}


def _over_prompts(evaluation: Evaluation) -> Estimate:
    """Accuracy with an interval over prompts: samples of one prompt are not independent."""
    return bootstrap([right / number for number, right in evaluation.counts()], fmean)


def _interval(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]
