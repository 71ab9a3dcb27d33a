"""Writes the HTML report of an evaluation: metrics, pass@k curves, the effect of training, and answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rewardkit.insight.svg_chart import ALARM, COLOURS, Line, Mark, line_chart
from rewardkit.train.evaluation.answers import Answer, ModelAnswers
from rewardkit.train.evaluation.metrics import GREEDY_ACCURACY
from rewardkit.train.evaluation.pass_at_k import Change, greedy_gain
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.reports import html

MOST_PROBLEMS = 4
"""Largest number of problems of each kind that are shown with their answers."""
MOST_POINTS = 48
"""Largest number of points of a curve."""
METHOD = (
    "Intervals: 95 %. Greedy accuracy: Wilson score interval. pass@k, majority@k and differences: percentile bootstrap over problems, "
    "widened by the share of problems that a sample of this size may miss."
)
"""The methods of the confidence intervals."""


def write_page(
    path: Path,
    metrics: Sequence[Mapping[str, Any]],
    all_answers: Sequence[ModelAnswers],
    changes: Sequence[Change],
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of an evaluation.

    Args:
        path: The HTML file.
        metrics: For each model its metrics by label, as numbers or ``Estimate``.
        all_answers: The models' answers.
        changes: The comparison of two models, over all problems first; empty for a single model.
        facts: What was evaluated, for the header, such as the reward and the date.

    Returns:
        ``path``.

    Raises:
        OutputError: The file can't be written.
    """
    roles = ("base: ", "trained: ") if len(all_answers) == 2 else ("",)
    head = ["", *(role + short(model_answers.model) for role, model_answers in zip(roles, all_answers, strict=True))]
    return html.write_page(
        path,
        "evaluation.html.j2",
        title="Evaluation",
        facts=[("model", model_answers.model) for model_answers in all_answers] + list((facts or {}).items()),
        warnings=warnings(all_answers),
        head=[*head, "difference"] if changes else head,
        rows=_rows(metrics, all_answers, changes),
        method=METHOD,
        comparison=_comparison(all_answers, changes) if changes else None,
    )


def warnings(all_answers: Sequence[ModelAnswers]) -> list[str]:
    """Return what makes the metrics meaningless: all answers of a model were cut off."""
    return [
        f"All {len(model_answers.answers):,} answers of {short(model_answers.model)} were cut off at rollout.max_new_tokens "
        "before they ended; raise it."
        for model_answers in all_answers
        if model_answers.answers and all(answer.is_cut for answer in model_answers.answers)
    ]


def _rows(
    metrics: Sequence[Mapping[str, Any]], all_answers: Sequence[ModelAnswers], changes: Sequence[Change]
) -> list[list[str]]:
    labels = list(dict.fromkeys(label for of in metrics for label in of))
    gains = differences(all_answers, changes)
    return [
        [label, *(words(of.get(label)) for of in metrics)] + ([words(gains.get(label), sign=True)] if changes else [])
        for label in labels
    ]


def differences(all_answers: Sequence[ModelAnswers], changes: Sequence[Change]) -> dict[str, Estimate]:
    """Return the gains over all problems by the label of their metric."""
    if not changes:
        return {}
    greedy = greedy_gain(*all_answers)
    found = {f"pass@{k}": gain for k, gain in enumerate(changes[0].gain, 1)}
    return found if greedy is None else {GREEDY_ACCURACY: greedy, **found}


def short(model: str) -> str:
    """Return the last two parts of a model's path."""
    return str(Path(*Path(model).parts[-2:]))


def words(value: float | Estimate | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number as text, with its interval if it is an estimate; a dash if it is not known."""
    style = f"{'+' if sign else ''}.{digits}f"
    if value is None:
        return ""
    if isinstance(value, Estimate):
        if math.isnan(value.value):
            return "–"
        return f"{value.value:{style}} ({value.low:{style}}…{value.high:{style}})"
    return f"{value:.{digits}f}"


def curve_chart(change: Change, lowest: float, *, width: int = 520, height: int = 300) -> Markup:
    """Draw pass@k of both models with their intervals, and mark where the base model overtakes.

    Args:
        change: The comparison.
        lowest: The lower end of the vertical axis.
        width: Width in pixels.
        height: Height in pixels.
    """
    ks = sorted({round(change.samples ** (index / (MOST_POINTS - 1))) for index in range(MOST_POINTS)})
    lines = [
        Line(
            name,
            [(k, of[k - 1].value) for k in ks],
            colour,
            band=[(k, of[k - 1].low, of[k - 1].high) for k in ks],
        )
        for name, of, colour in (("base", change.base, COLOURS[1]), ("trained", change.trained, COLOURS[0]))
    ]
    title = f"{change.name}: {change.problems} problems"
    marks = [Mark(change.crossover, "base overtakes", strong=True)] if change.crossover else []
    chart = line_chart(
        title,
        lines,
        width=width,
        height=height,
        log_x=True,
        note="pass@k",
        x_label="k",
        bounds=(lowest, 1.0),
        marks=marks,
    )
    return Markup(chart)  # noqa: S704 - line_chart escapes its texts


def _comparison(all_answers: Sequence[ModelAnswers], changes: Sequence[Change]) -> dict[str, Any]:
    whole, *classes = changes
    entries = [("base", COLOURS[1], False), ("trained", COLOURS[0], False)]
    if any(item.crossover for item in changes):
        entries.append(("base is ahead from here on", ALARM, True))
    least = min(of[0].low for item in changes for of in (item.base, item.trained))
    lowest = 0.0 if least < 0.5 else math.floor(10 * least) / 10
    k = whole.reach
    head = ["problems", "", "pass@1", "gain within reach", "gain out of reach", f"new in {k}", "luck", f"lost in {k}"]
    return {
        "legend": entries,
        "whole": curve_chart(whole, lowest),
        "classes": [curve_chart(item, lowest, width=340, height=220) for item in classes],
        "sentences": sentences(whole),
        "head": head,
        "rows": [_change_row(item) for item in changes],
        "reach": k,
        "samples": whole.samples,
        "problems": _problems(all_answers[0], all_answers[1]),
    }


def _change_row(item: Change) -> list[str]:
    return [
        item.name,
        str(item.problems),
        f"{item.base[0].value:.3f} → {item.trained[0].value:.3f}",
        words(item.elicited, 2, sign=True),
        words(item.created, 2, sign=True),
        words(item.new, 2),
        words(item.luck, 2),
        words(item.lost, 2),
    ]


def sentences(change: Change) -> list[str]:
    """Return the result of a comparison in sentences."""
    gain = change.gain[0]
    found = [f"pass@1 went from {change.base[0].value:.3f} to {change.trained[0].value:.3f}: {words(gain, sign=True)}."]
    if gain.low > 0 and not math.isnan(change.elicited_share.value):
        share = change.elicited_share
        found.append(
            f"{share.value:.0%} of that ({share.low:.0%}…{share.high:.0%}) is on problems within reach of the base model: it "
            f"solves them in {change.reach} tries."
        )
    if change.new.value or change.luck.value or change.lost.value:
        found.append(_new_and_lost(change))
    found.append(_ahead(change))
    return found


def _new_and_lost(change: Change) -> str:
    net, k = change.new_beyond_luck, change.reach
    if net.low > 0:
        verdict = "luck does not explain that: training made right answers possible"
    else:
        verdict = "luck alone would find more" if net.high < 0 else "luck may explain that"
    return (
        f"{change.new.value:.1%} of the problems are newly solved in {k} tries, where {k} further tries of the base model would newly "
        f"solve {change.luck.value:.1%}: {verdict}. {change.lost.value:.1%} are no longer solved in {k} tries."
    )


def _ahead(change: Change) -> str:
    """Return which model is ahead at the largest k."""
    n, last = change.samples, change.gain[-1]
    if change.crossover is not None:
        return f"From k = {change.crossover} on the base model is ahead; at k = {n} by {words(_negative(last))}" + (
            "." if last.high < 0 else ", which may be chance."
        )
    if last.value < 0:
        return f"The base model is ahead at every k up to {n}."
    if abs(last.value) < 0.0005:  # the sentence would say 0.000
        return f"At k = {n} neither model is ahead: both solve {change.trained[-1].value:.3f} of the problems."
    certainty = "" if last.low > 0 else ", which may be chance"
    return f"At k = {n} the trained model is ahead by {words(last)}{certainty}."


def _negative(value: Estimate) -> Estimate:
    return Estimate(-value.value, -value.high, -value.low)


def _problems(base: ModelAnswers, trained: ModelAnswers) -> list[dict[str, Any]]:
    """Return the problems that only the trained model solved, and those that only the base model solved."""
    before, after = base.by_prompt, trained.by_prompt
    counts = base.counts(), trained.counts()
    both = [prompt for prompt in counts[0] if prompt in counts[1]]

    def gained(prompt: int) -> int:
        return counts[1][prompt][1] - counts[0][prompt][1]

    kinds = {
        "Solved by at least one sample of the trained model, and by none of the base model": sorted(
            (prompt for prompt in both if counts[0][prompt][1] == 0 < counts[1][prompt][1]), key=gained, reverse=True
        ),
        "Solved by at least one sample of the base model, and by none of the trained model": sorted(
            (prompt for prompt in both if counts[1][prompt][1] == 0 < counts[0][prompt][1]), key=gained
        ),
    }

    def row(prompt: int) -> dict[str, Any]:
        answers = [
            (name, counts[which][prompt][1], counts[which][prompt][0], _example(of[prompt]).text)
            for which, (name, of) in enumerate((("base", before), ("trained", after)))
        ]
        return {"prompt": base.prompts[prompt].text, "answers": answers}

    return [
        {"heading": heading, "count": len(prompts), "rows": [row(prompt) for prompt in prompts[:MOST_PROBLEMS]]}
        for heading, prompts in kinds.items()
        if prompts
    ]


def _example(answers: Sequence[Answer]) -> Answer:
    """Return a right answer if there is one, else the first."""
    return next((answer for answer in answers if answer.right), answers[0])
