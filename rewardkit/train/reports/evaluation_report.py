"""An evaluation as one HTML file: figures, pass@k curves before and after training, what changed, and answers to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardkit.errors import OutputError
from rewardkit.train.evaluation.answers import Answer, Exam
from rewardkit.train.evaluation.metrics import GREEDY_ACCURACY
from rewardkit.train.evaluation.pass_at_k import Change, greedy_gain
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.reports.html import key, page, table, text
from rewardkit.train.reports.svg_chart import ALARM, COLOURS, Line, Mark, line_chart

MOST_PROBLEMS = 4
"""Of each kind that are shown with their answers."""
MOST_POINTS = 48
"""Of a curve."""


def write_page(
    path: Path, figures: Sequence[Mapping[str, Any]], exams: Sequence[Exam], changes: Sequence[Change]
) -> Path:
    """Draw an evaluation.

    Args:
        path: The HTML file.
        figures: Of each model: label → figure, as a number or an Estimate.
        exams: Of each model.
        changes: Between the two of them, the whole first; none for a single model.

    Raises:
        OutputError: The file can't be written.
    """
    parts = ["<h1>Evaluation</h1>", _figures(figures, exams, changes)]
    if changes:
        parts += ["<h2>pass@k</h2>", *_curves(changes), "<h2>What training changed</h2>", *_changes(changes)]
        parts += _problems(exams[0], exams[1])
    try:
        path.write_text(page("Evaluation", parts), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from None
    return path


def _figures(figures: Sequence[Mapping[str, Any]], exams: Sequence[Exam], changes: Sequence[Change]) -> str:
    labels = list(dict.fromkeys(label for of in figures for label in of))
    gains = differences(exams, changes)
    rows = [
        [text(label), *(words(of.get(label)) for of in figures)]
        + ([words(gains.get(label), sign=True)] if changes else [])
        for label in labels
    ]
    roles = ("base: ", "trained: ") if len(exams) == 2 else ("",)
    head = ["", *(role + short(exam.model) for role, exam in zip(roles, exams, strict=True))]
    head += ["difference"] if changes else []
    return table(head, rows, numbers=range(1, len(head)))


def differences(exams: Sequence[Exam], changes: Sequence[Change]) -> dict[str, Estimate]:
    """Gains over all problems by the label of their figure."""
    if not changes:
        return {}
    greedy = greedy_gain(*exams)
    found = {f"pass@{k}": gain for k, gain in enumerate(changes[0].gain, 1)}
    return found if greedy is None else {GREEDY_ACCURACY: greedy, **found}


def short(model: str) -> str:
    """The end of a model's path, as far as it tells something."""
    return str(Path(*Path(model).parts[-2:]))


def words(value: float | Estimate | None, digits: int = 3, *, sign: bool = False) -> str:
    """A figure, with its interval where it has one."""
    style = f"{'+' if sign else ''}.{digits}f"
    if value is None:
        return ""
    if isinstance(value, Estimate):
        if math.isnan(value.value):
            return "–"
        return f"{value.value:{style}} ({value.low:{style}}…{value.high:{style}})"
    return f"{value:.{digits}f}"


def curve_chart(change: Change, lowest: float, *, width: int = 520, height: int = 300) -> str:
    """pass@k of both models with their intervals, and where the base model overtakes; ``lowest`` is the foot of the axis."""
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
    bounds = (lowest, 1.0)
    return line_chart(
        title, lines, width=width, height=height, log_x=True, note="pass@k over k", bounds=bounds, marks=marks
    )


def _curves(changes: Sequence[Change]) -> list[str]:
    entries = [("base", COLOURS[1], False), ("trained", COLOURS[0], False)]
    if any(item.crossover for item in changes):
        entries.append(("from here on base is ahead", ALARM, True))
    legend = key(entries)
    whole, *classes = changes
    note = (
        '<p class="dim">Bands: 95 %, bootstrap over problems, each curve by itself. Whether the curves differ is told by the '
        "differences above, which are taken problem by problem.</p>"
    )
    least = min(of[0].low for item in changes for of in (item.base, item.trained))
    lowest = 0.0 if least < 0.5 else math.floor(10 * least) / 10
    small = "".join(curve_chart(item, lowest, width=340, height=220) for item in classes)
    return [legend, f'<div class="wide">{curve_chart(whole, lowest)}</div>', f'<div class="grid">{small}</div>', note]


def sentences(change: Change) -> list[str]:
    """What the figures say, in words."""
    gain, last = change.gain[0], change.gain[-1]
    found = [f"pass@1 went from {change.base[0].value:.3f} to {change.trained[0].value:.3f}: {words(gain, sign=True)}."]
    if gain.low > 0 and not math.isnan(change.elicited_share.value):
        share = change.elicited_share
        found.append(
            f"{share.value:.0%} of that ({share.low:.0%}…{share.high:.0%}) is on problems within reach of the base model: it "
            f"solves them in {change.reach} tries."
        )
    net = change.new_beyond_luck
    if net.low > 0:
        verdict = "luck does not explain that: right answers came within reach"
    else:
        verdict = "luck alone would find more" if net.high < 0 else "luck may explain that"
    k = change.reach
    found.append(
        f"{change.new.value:.1%} of the problems are newly solved in {k} tries, where {k} further tries of the base model would newly "
        f"solve {change.luck.value:.1%}: {verdict}. {change.lost.value:.1%} are no longer solved in {k} tries."
    )
    n = change.samples
    if change.crossover is not None:
        found.append(
            f"From k = {change.crossover} on the base model is ahead; at k = {n} by {words(_negative(last))}"
            + ("." if last.high < 0 else ", which may be chance.")
        )
    elif last.value < 0:
        found.append(f"The base model is ahead at every k up to {n}.")
    else:
        sure = "" if last.low > 0 else ", which may be chance"
        found.append(f"At k = {n} the trained model is still ahead by {words(last)}{sure}.")
    return found


def _negative(value: Estimate) -> Estimate:
    return Estimate(-value.value, -value.high, -value.low)


def _changes(changes: Sequence[Change]) -> list[str]:
    whole = changes[0]
    k = whole.reach
    head = ["problems", "", "pass@1", "gain within reach", "gain out of reach", f"new in {k}", "luck", f"lost in {k}"]
    rows = [
        [
            text(item.name),
            str(item.problems),
            f"{item.base[0].value:.3f} → {item.trained[0].value:.3f}",
            words(item.elicited, 2, sign=True),
            words(item.created, 2, sign=True),
            words(item.new, 2),
            words(item.luck, 2),
            words(item.lost, 2),
        ]
        for item in changes
    ]
    notes = f"""
    Within reach: the base model solves the problem in {k} tries. Of its {whole.samples} samples one half decides that and the other half
    measures how often it is right there, so that luck does not look like learning; two equal models show gains of 0.

    Gain within reach is elicitation: training made likelier what the base model could do. Gain out of reach, and problems that are newly
    solved beyond luck, are creation. New: solved in {k} tries by the trained model and not by the base model; lost: the reverse. Luck:
    what {k} further tries of the base model would newly solve, and lose.

    Intervals: 95 %, bootstrap over problems.
    """
    said = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences(whole))
    return [
        f"<ul>{said}</ul>",
        table(head, rows, numbers=range(1, len(head))),
        *(f'<p class="dim">{text(note)}</p>' for note in notes.strip().split("\n\n")),
    ]


def _problems(base: Exam, trained: Exam) -> list[str]:
    """Problems that none of the base model's samples solved and some of the trained one's did, and the reverse."""
    before, after = base.by_prompt, trained.by_prompt
    counts = base.counts(), trained.counts()
    both = [prompt for prompt in counts[0] if prompt in counts[1]]

    def gained(prompt: int) -> int:
        return counts[1][prompt][1] - counts[0][prompt][1]

    kinds = {
        "Solved by no sample of the base model, and by some of the trained one": sorted(
            (prompt for prompt in both if counts[0][prompt][1] == 0 < counts[1][prompt][1]), key=gained, reverse=True
        ),
        "Solved by some sample of the base model, and by none of the trained one": sorted(
            (prompt for prompt in both if counts[1][prompt][1] == 0 < counts[0][prompt][1]), key=gained
        ),
    }
    parts = []
    for title, prompts in kinds.items():
        rows = [
            [
                f'<pre class="tall">{text(base.prompts[prompt].text)}</pre>',
                *(
                    f'<p class="dim">{counts[which][prompt][1]} of {counts[which][prompt][0]} right</p>'
                    f'<pre class="tall">{text(_example(answers[prompt]).text)}</pre>'
                    for which, answers in enumerate((before, after))
                ),
            ]
            for prompt in prompts[:MOST_PROBLEMS]
        ]
        if rows:
            head = "".join(f"<th>{name}</th>" for name in ("problem", "base", "trained"))
            body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
            note = f'<p class="dim">{len(prompts)} problems, of which these changed most</p>'
            parts.append(f'<h2>{title}</h2>{note}<table class="wide"><tr>{head}</tr>{body}</table>')
    return parts


def _example(answers: Sequence[Answer]) -> Answer:
    """A right answer if there is one."""
    return next((answer for answer in answers if answer.right), answers[0])
