"""The metrics of an evaluation: of each model, by label for people, and as the record that is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewardkit.errors import DataError
from rewardkit.train.evaluation.answers import ModelAnswers, means
from rewardkit.train.evaluation.pass_at_k import Change, majorities, passes, plain, shown_ks
from rewardkit.train.evaluation.statistics import Estimate

GREEDY_ACCURACY = "greedy accuracy"
"""The label of the greedy accuracy."""

KEPT = (
    *("name", "problems", "samples", "reach", "crossover", "within", "elicited", "created", "elicited_share"),
    *("new", "luck", "new_beyond_luck", "lost"),
)
"""The fields of a change that are saved, besides its curves."""


def model_metrics(model_answers: ModelAnswers, samples: int) -> dict[str, Any]:
    """Compute all metrics of one model.

    Raises:
        DataError: There is no problem whose samples could all be scored.
    """
    found: dict[str, Any] = {"greedy": {"accuracy": model_answers.greedy_accuracy(), **means(model_answers.greedy)}}
    if samples:
        drawn = [answer for answers in model_answers.by_prompt.values() for answer in answers]
        ks = shown_ks(samples)
        counted = model_answers.counts()
        if not counted:
            raise DataError(f"{model_answers.model}: there is no problem whose {samples} samples could all be scored")
        found["sampled"] = {
            **means(drawn),
            "problems": len(counted),
            "problems_left_out": len(model_answers.prompts) - len(counted),
            "pass_at": passes(model_answers, ks),
            "majority_at": majorities(model_answers, ks),
        }
    return found


def labelled(metrics: Mapping[str, Any]) -> dict[str, float | Estimate]:
    """Return the metrics by the labels that people read."""
    greedy, sampled = metrics["greedy"], metrics.get("sampled")
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
    samples: int, all_answers: Sequence[ModelAnswers], metrics: Sequence[Mapping[str, Any]], changes: Sequence[Change]
) -> dict[str, Any]:
    """Return the record of an evaluation, as JSON data."""
    models = [{"model": model_answers.model, **of} for model_answers, of in zip(all_answers, metrics, strict=True)]
    found: dict[str, Any] = plain(
        {"samples": samples, "models": models, "changes": [_change(item) for item in changes]}
    )
    return found


def _change(change: Change) -> dict[str, Any]:
    ks = shown_ks(change.samples)
    curves = {name: {k: getattr(change, name)[k - 1] for k in ks} for name in ("base", "trained", "gain")}
    return {name: getattr(change, name) for name in KEPT} | curves
