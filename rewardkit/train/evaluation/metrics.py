"""The figures of an evaluation: of each model, by the words that a person reads, and as the record that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewardkit.errors import DataError
from rewardkit.train.evaluation.answers import ModelAnswers, means
from rewardkit.train.evaluation.pass_at_k import Change, majorities, passes, plain, shown_ks
from rewardkit.train.evaluation.statistics import Estimate

GREEDY_ACCURACY = "greedy accuracy"
"""The label of that figure."""


KEPT = (
    *("name", "problems", "samples", "reach", "crossover", "within", "elicited", "created", "elicited_share"),
    *("new", "luck", "new_beyond_luck", "lost"),
)
"""Of a change, beside its curves."""


def figures_of(model_answers: ModelAnswers, samples: int) -> dict[str, Any]:
    """All figures of one model.

    Raises:
        DataError: Of no problem all samples could be scored.
    """
    found: dict[str, Any] = {"greedy": {"accuracy": model_answers.greedy_accuracy(), **means(model_answers.greedy)}}
    if samples:
        drawn = [answer for answers in model_answers.by_prompt.values() for answer in answers]
        ks = shown_ks(samples)
        counted = model_answers.counts()
        if not counted:
            raise DataError(f"{model_answers.model}: of no problem all {samples} samples could be scored")
        found["sampled"] = {
            **means(drawn),
            "problems": len(counted),
            "problems_left_out": len(model_answers.prompts) - len(counted),
            "pass_at": passes(model_answers, ks),
            "majority_at": majorities(model_answers, ks),
        }
    return found


def labelled(figures: Mapping[str, Any]) -> dict[str, float | Estimate]:
    """Figures by the words that a person reads."""
    greedy, sampled = figures["greedy"], figures.get("sampled")
    found: dict[str, float | Estimate] = {GREEDY_ACCURACY: greedy["accuracy"]}
    if sampled:
        found |= {f"pass@{k}": value for k, value in sampled["pass_at"].items()}
        found |= {f"majority@{k}": value for k, value in sampled["majority_at"].items() if k > 1}
    for name, value in greedy.items():
        if name.startswith("component/"):
            found[f"{name.removeprefix('component/')} (greedy)"] = value
    found |= {"tokens (greedy)": greedy["length"], "cut off (greedy)": greedy["truncated"]}
    if greedy["unscored"] or (sampled and sampled["unscored"]):
        found["unscored"] = sampled["unscored"] if sampled else greedy["unscored"]
        if sampled:
            found["problems left out"] = sampled["problems_left_out"]
    return found


def record_of(
    samples: int, all_answers: Sequence[ModelAnswers], figures: Sequence[Mapping[str, Any]], changes: Sequence[Change]
) -> dict[str, Any]:
    """What is kept of an evaluation, as JSON data."""
    models = [{"model": model_answers.model, **of} for model_answers, of in zip(all_answers, figures, strict=True)]
    found: dict[str, Any] = plain(
        {"samples": samples, "models": models, "changes": [_change(item) for item in changes]}
    )
    return found


def _change(change: Change) -> dict[str, Any]:
    ks = shown_ks(change.samples)
    curves = {name: {k: getattr(change, name)[k - 1] for k in ks} for name in ("base", "trained", "gain")}
    return {name: getattr(change, name) for name in KEPT} | curves
