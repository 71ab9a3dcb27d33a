"""The reward `math` and the command `rewardkit math`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from rewardkit import FieldName, NotApplicable, Rollout, Score, Unscored, hookimpl, reward
from rewardkit_math.extraction import SOURCES
from rewardkit_math.policy import Policy
from rewardkit_math.reading import Read, read, read_reference
from rewardkit_math.verify import QUOTED, Verdict, verify

if TYPE_CHECKING:
    import click


Source = Literal["tag", "boxed", "hash", "bare", "phrase", "math", "number", "text"]


def check(params: Any, rollout: Rollout) -> str | None:
    """Return the problem of a row's reference, or None if it has none."""
    references = _references(rollout, params.reference)
    if isinstance(references, Unscored):
        return references.message
    if params.undecided == "not_applicable":
        return None
    for text in references:
        verdict = verify("0", text, symbolic=False)
        if verdict.failure == "reference" and any(problem in verdict.reason for problem in _PROBLEMS):
            return verdict.reason
    return None


_PROBLEMS = ("can't be understood", "the reference contains no answer", "the reference is a sentence")
"""Parts of reasons that say that a reference can't be compared with an answer."""


@reward(
    "math",
    deterministic=True,
    check=check,
    example="correct: {use: math, with: {reference: answer}}",
)
class Math:
    r"""Scores 1.0 if the final answer of the completion equals the reference, else 0.0.

    The answer is taken from the last `\boxed{…}`, `<answer>…</answer>`, `####`, "the answer is …", the last formula or the last
    number, in this order of trust. It may be a number in any notation, an expression, an interval, a set, a tuple, an equation, an
    inequality, a matrix, or words. The reason says what was found on each side and how it was decided.
    """

    def __init__(
        self,
        *,
        reference: FieldName,
        extraction: Sequence[Source] = SOURCES,  # type: ignore[assignment]
        percent: Literal["either", "fraction", "number"] = "either",
        tolerance: Annotated[float, Ge(0)] = 1e-6,
        list_order: bool = False,
        units: Literal["ignore", "required"] = "ignore",
        set_relation: bool = True,
        form: Literal["any", "simplified"] = "any",
        decimal_places: Annotated[int, Ge(0)] | None = None,
        symbolic: bool = True,
        deadline_s: Annotated[float, Gt(0)] = 2.0,
        max_steps: Annotated[int, Gt(0)] = 20_000,
        undecided: Literal["unscored", "not_applicable"] = "unscored",
    ) -> None:
        """Set the conventions of the comparison.

        Args:
            reference: The field with the reference: an answer, or a text that marks its answer. If it is a list, any item may be matched.
            extraction: The places in which the answer is searched for, most trusted first. ["boxed"] requires a box.
            percent: 50% equals 0.5 and 50 (either), only 0.5 (fraction), or only 50 (number).
            tolerance: The largest difference between a decimal and an exact value; above 1e-6 it is relative and applies to integers, too.
            list_order: If true, the order of a bare list such as 1, 2, 3 matters.
            units: "ignore" accepts an answer without the reference's unit, "required" does not.
            set_relation: If true, an inequality may equal a reference that is an interval.
            form: "simplified" requires lowest terms, with all arithmetic carried out.
            decimal_places: The number of digits after the decimal point that the answer must have.
            symbolic: If true, sympy, in a worker process, decides comparisons that the other tiers leave open.
            deadline_s: Seconds of CPU time of the worker process for one comparison; its start does not count.
            max_steps: Steps of the tiers in this process for one comparison; a step takes one to ten microseconds.
            undecided: What becomes of a row whose reference can't be compared: unscored, or not_applicable, so that another component,
                such as a judge, can decide it (when: "correct == null").
        """
        self.undecided = undecided
        self.reference = reference
        self.policy = Policy(
            extraction=tuple(extraction),
            percent=percent,
            tolerance=tolerance,
            list_order=list_order,
            units=units,
            set_relation=set_relation,
            form=form,
            decimal_places=decimal_places,
            symbolic=symbolic,
            deadline_s=deadline_s,
            max_steps=max_steps,
        )

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored | NotApplicable]:
        """Score a batch."""
        return [self.score(rollout) for rollout in rollouts]

    def score(self, rollout: Rollout) -> Score | Unscored | NotApplicable:
        """Score one rollout."""
        references = _references(rollout, self.reference)
        if isinstance(references, Unscored):
            return references
        completion = rollout.completion_text
        failed: Verdict | None = None
        wrong: Verdict | None = None
        for text in references:
            verdict = verify(completion, text, policy=self.policy)
            if verdict.correct:
                return _score(1.0, verdict)
            if verdict.correct is None:
                failed = failed or verdict
            else:
                wrong = wrong or verdict
        if failed is not None:  # the undecided reference may be the one that the completion matches
            kind = failed.failure or "reference"
            if kind == "reference" and self.undecided == "not_applicable":
                return NotApplicable(failed.reason)
            return Unscored(kind, failed.reason)
        assert wrong is not None  # noqa: S101 - there is at least one reference
        return _score(0.0, wrong)


def _score(value: float, verdict: Verdict) -> Score:
    """Return a score whose reason quotes the answers, and a long answer whole beside it."""
    answer = verdict.prediction.text if verdict.prediction else ""
    return Score(value, f"{verdict.reason} [{verdict.tier}]", extracted=answer if len(answer) > QUOTED else None)


def _references(rollout: Rollout, field: str) -> list[str] | Unscored:
    """Return the acceptable answers of a row, as text."""
    if field not in rollout.fields:
        return Unscored("input", f"the row has no field {field!r}, which should hold the reference answer")
    value = rollout.fields[field]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    texts = [
        v if isinstance(v, str) else repr(v)
        for v in values
        if isinstance(v, (str, int, float)) and not isinstance(v, bool)
    ]
    if not texts or len(texts) != len(values) or not all(t.strip() for t in texts):
        return Unscored(
            "reference", f"field {field!r} should hold the reference answer as text or a number; it holds {value!r:.80}"
        )
    return texts


@hookimpl
def register_commands() -> Iterable[click.Command]:
    """Add the command `rewardkit math`."""
    import click

    from rewardkit.toolkit import FiniteRange

    @click.command("math", short_help="Compare two mathematical answers.")
    @click.argument("prediction")
    @click.argument("reference")
    @click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
    @click.option("--percent", type=click.Choice(["either", "fraction", "number"]), default="either", show_default=True)
    @click.option("--tolerance", type=FiniteRange(min=0), default=1e-6, show_default=True)
    @click.option("--list-order", is_flag=True, help="The order of a bare list counts.")
    @click.option("--units", type=click.Choice(["ignore", "required"]), default="ignore", show_default=True)
    @click.option("--form", type=click.Choice(["any", "simplified"]), default="any", show_default=True)
    @click.option("--deadline", "deadline_s", type=FiniteRange(min=0, min_open=True), default=2.0, show_default=True)
    def command(prediction: str, reference: str, *, as_json: bool, **options: Any) -> None:
        """Compare the answer in PREDICTION with the one in REFERENCE.

        Both may be a bare answer or a whole text. The exit code is 0 if they are equal, 1 if they differ, 3 if there is no verdict.
        """
        verdict = verify(prediction, reference, **options)
        if as_json:
            import json

            found = {
                "correct": verdict.correct,
                "tier": verdict.tier,
                "failure": verdict.failure,
                "reason": verdict.reason,
            }
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            word = {True: "equal", False: "different", None: f"no verdict ({verdict.failure})"}[verdict.correct]
            click.echo(word + (f"  [{verdict.tier}]" if verdict.tier else ""))
            for name, side in (("prediction", read(prediction, SOURCES)), ("reference", read_reference(reference))):
                click.echo(f"  {name:<10} {_explained(side)}")
            click.echo(f"  because    {verdict.reason}")
        raise SystemExit({True: 0, False: 1, None: 3}[verdict.correct])

    return [command]


def _explained(side: Read) -> str:
    """Return the answer of one side, where it was found, and its expression."""
    if not side.answer:
        return side.problem or "no answer found"
    shown = repr(side.expr) if side.expr is not None else f"not parsed: {side.problem}"
    return f"{side.answer.text}  ({side.answer.source})  →  {shown}"
