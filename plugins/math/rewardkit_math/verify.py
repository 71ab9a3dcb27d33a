"""The verifier: extraction, the tiers one below the other, and a verdict that explains itself."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from rewardkit_math import symbolic
from rewardkit_math.alternatives import alternatives, same_digits
from rewardkit_math.comparison import Comparison
from rewardkit_math.errors import MathError, TooLarge, Unbounded, Undecided, Undefined
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.extraction import Answer
from rewardkit_math.form import decimal_places, unsimplified
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import text as texts
from rewardkit_math.phrases import word_count
from rewardkit_math.policy import Policy
from rewardkit_math.reading import Read, read, read_boxes, read_phrase, read_reference
from rewardkit_math.units import unit
from rewardkit_math.work import allowed

DEFAULT = Policy()
Failure: TypeAlias = Literal["", "reference", "timeout", "infra"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a prediction equals a reference, and why."""

    correct: bool | None
    """None: no verdict, and not the prediction's fault (see `failure`)."""

    reason: str
    """What was extracted from each side, in which tier it was decided, and why."""

    tier: str
    """The tier that decided: text, rational, normal form, structure, numeric or symbolic; "" without a decision."""

    failure: Failure = ""
    """Why there is no verdict: the reference can't be understood, the deadline passed, or workers died."""

    prediction: Answer | None = None
    reference: Answer | None = None


def verify(prediction: str, reference: str, *, policy: Policy | None = None, **options: Any) -> Verdict:
    """Decide whether `prediction` gives the same answer as `reference`.

    Both may be a bare answer or a whole text with an answer in it. Never raises for any text.

    Args:
        prediction: The text to be judged.
        reference: The right answer.
        policy: Conventions, see `Policy`.
        **options: Fields of `Policy` that replace those of `policy`.

    Returns:
        A verdict; `correct` is None where the reference can't be understood, time ran out, or workers died.
    """
    question = _question(prediction, reference, policy, options)
    settled = question.fast(question.policy.max_steps)
    return question.verdict(settled if isinstance(settled, _Settled) else question.slow(settled))


async def verify_async(prediction: str, reference: str, *, policy: Policy | None = None, **options: Any) -> Verdict:
    """Return what `verify` returns, from a coroutine that leaves the event loop free.

    The loop gets a turn before each call. Long texts, comparisons of more than a few steps, and questions to a worker process run in
    another thread.

    Args:
        prediction: As for `verify`.
        reference: As for `verify`.
        policy: As for `verify`.
        **options: As for `verify`.

    Returns:
        A verdict.
    """
    await asyncio.sleep(0)
    if len(prediction) + len(reference) > _LONG:
        return await asyncio.to_thread(partial(verify, prediction, reference, policy=policy, **options))
    question = _question(prediction, reference, policy, options)
    settled = question.fast(min(_SHORT, question.policy.max_steps))
    if isinstance(settled, _Settled):
        return question.verdict(settled)
    return question.verdict(await asyncio.to_thread(question.rest))


_LONG = 20_000
"""Characters from which on even reading goes to another thread."""

_SHORT = 1_000
"""Steps that a comparison may take in the event loop."""


class _Settled(NamedTuple):
    """An outcome: the verdict (None: none), its tier (where there is none, what failed), and why."""

    correct: bool | None
    tier: str
    why: str


class _Question(NamedTuple):
    """A prediction and a reference, read, and the policy to compare them by."""

    prediction: str
    theirs: Read
    ours: Read
    policy: Policy

    def fast(self, max_steps: int) -> _Settled | MathError:
        """Return the outcome of all tiers but the symbolic one, or why they leave it open."""
        try:
            with allowed(max_steps):
                return self.decided()
        except RecursionError:
            return TooLarge("an expression nested too deeply")
        except TooLarge as error:
            return error

    def rest(self) -> _Settled:
        """Return the outcome of all tiers, where the fast ones were stopped before they had taken all the steps that they may."""
        settled = self.fast(self.policy.max_steps)
        return settled if isinstance(settled, _Settled) else self.slow(settled)

    def decided(self) -> _Settled | MathError:
        """Return the outcome of the fast tiers; raises TooLarge where they take too many steps."""
        theirs, ours = self.theirs, self.ours
        if not ours.answer:
            return _Settled(None, "", f"the reference gives no answer: {ours.problem}")
        if not theirs.answer:
            return _Settled(False, "text", "the prediction gives no answer")
        first, second = theirs.answer.text, ours.answer.text
        if (
            ours.expr is None
            and texts.chemical(ours.answer.text) is None
            and ours.answer.source == "text"
            and not _is_words(ours.answer.text)
        ):
            return _Settled(None, "", f"the reference can't be understood: {ours.problem}")
        fault = self.fault()
        if fault is not None:
            return _Settled(False, "text", f"the form of the prediction: {fault}")
        a, b = theirs.expr, ours.expr
        if a is not None and b is not None and a.head == b.head == "num" and a.args[1] is b.args[1] is None:
            same = a.args[0] == b.args[0]
            return _Settled(same, "rational", "equal" if same else "different")
        if first == second or texts.typographic(first) == texts.typographic(second):
            return _Settled(True, "text", "written alike")
        if len(first) < 120 and len(second) < 120 and any(c.isupper() for c in second):
            formulas = texts.chemical(first), texts.chemical(second)
            if formulas[0] is not None and formulas[0] == formulas[1]:
                return _Settled(True, "text", "the same chemical formula")
            if ours.expr is None and formulas[1] is not None:
                return _Settled(False, "text", "another chemical formula")
        if b is not None and b.head == "phrase":
            settled = self.phrased(b)
        elif a is not None and b is not None:
            if b.head == a.head == "sym" and b.args[0] in _CHOICES and a.args[0] == b.args[0].casefold():
                return _Settled(True, "text", "the same letter")
            settled = self.compared(a, b)
        else:
            settled = None
        if isinstance(settled, _Settled) and settled.correct:
            return settled
        return self.second_look(first, second) or settled or self.unread(second)

    def second_look(self, first: str, second: str) -> _Settled | None:
        """Return that the sides are equal in another spelling or reading, or None."""
        theirs, ours = self.theirs, self.ours
        alike = len(first) < 400 and len(second) < 400 and _DIGITS.sub("", first) == _DIGITS.sub("", second)
        if alike and texts.spelled_out(first) == texts.spelled_out(second):
            return _Settled(True, "text", "written alike")
        if theirs.expr is not None and ours.expr is not None and not _HINTS.search(first) and not _HINTS.search(second):
            return None
        plain = texts.plain(first), texts.plain(second)
        if (
            plain[0] == plain[1]
            and plain[0]
            and not set(plain[0]) & _NOTATION
            and (theirs.expr is None or ours.expr is None)
        ):
            return _Settled(True, "text", "the same words")
        if same_digits(first, second):
            return _Settled(True, "text", "the same digits")
        if theirs.answer.source == "boxed" and ours.expr is not None and ours.expr.head == "seq":
            together = self.all_boxes(ours.expr)
            if together is not None:
                return together
        for mine in (theirs.expr, *alternatives(first, ours.expr, prediction=True)):
            for other in (ours.expr, *alternatives(second, mine, prediction=False)):
                if mine is None or other is None or (mine is theirs.expr and other is ours.expr):
                    continue
                settled = self.compared(mine, other)
                if isinstance(settled, _Settled) and settled.correct:
                    return settled
        return None

    def unread(self, second: str) -> _Settled:
        """Return the outcome where a side has no expression."""
        theirs, ours = self.theirs, self.ours
        if ours.expr is None and not _is_words(second):
            return _Settled(None, "", f"the reference can't be understood: {ours.problem}")
        if ours.expr is None:
            return _Settled(False, "text", "other words than the reference")
        return _Settled(False, "text", f"the prediction can't be understood: {theirs.problem}")

    def fault(self) -> str | None:
        """What is wrong with the form of the prediction, under policies that ask for one."""
        policy, expr = self.policy, self.theirs.expr
        if policy.form == "simplified" and expr is not None:
            problem = unsimplified(expr, self.theirs.answer.text)
            if problem is not None:
                return problem
        if policy.decimal_places is not None and expr is not None:
            places = decimal_places(expr)
            if places != policy.decimal_places:
                return f"{places} decimal places, not {policy.decimal_places}"
        return None

    def phrased(self, ours: Expr) -> _Settled | MathError:
        """Return the outcome for a reference of words and formulas.

        The same words with equal formulas are equal, other words in their places or other formulas are different. What does not have the
        form of the reference, a formula alone for example, can't be judged.
        """
        theirs = self.theirs.expr
        if theirs is None or theirs.head != "phrase":
            found = read_phrase(self.prediction, self.policy.extraction)
            theirs = found.expr if found is not None else theirs
        if theirs is not None and theirs.head == "phrase":
            if [p.head == "text" for p in theirs.args] == [p.head == "text" for p in ours.args]:
                return self.compared(theirs, ours)
        if not word_count(ours):
            return _Settled(False, "text", "other words than the reference")
        return _Settled(None, "", "the reference is a sentence, which an answer of another form can't be compared with")

    def all_boxes(self, ours: Expr) -> _Settled | None:
        """Return that all boxes of the prediction together are the list that the reference asks for, or None."""
        wanted = ours.args[1:] if ours.head == "seq" and ours.args[0] in ("", "{}", "()") else None
        found = read_boxes(self.prediction) if wanted and len(wanted) > 1 else []
        if wanted is None or len(found) != len(wanted):
            return None
        values = [read.expr for read in found]
        if any(value is None for value in values):
            return None
        settled = self.compared(Expr("seq", "", *values), ours)
        return settled if isinstance(settled, _Settled) and settled.correct else None

    def compared(self, theirs: Expr, ours: Expr) -> _Settled | MathError:
        comparison = Comparison(self.policy)
        try:
            same, doubt = False, None
            try:
                same = comparison.equal(theirs, ours)
            except Undecided as error:
                doubt = error
            as_units = not same and _quantity_equal(self.theirs, self.ours, comparison)
            renamed = not same and comparison.renamed(theirs, ours)
            if doubt is not None and not renamed:
                return doubt
        except Undefined as error:
            return _Settled(False, comparison.tier, f"one side has no value: {error}")
        except (Undecided, TooLarge) as error:
            return error
        if renamed:
            return _Settled(True, comparison.tier, "equal up to the names of constants")
        if as_units:
            return _Settled(True, comparison.tier, "equal up to a unit")
        return _Settled(same, comparison.tier, "equal" if same else "different")

    def slow(self, doubt: MathError) -> _Settled:
        """Return the outcome of the symbolic tier, for what the others leave open."""
        theirs, ours, policy = self.theirs.expr, self.ours.expr, self.policy
        if theirs is None or ours is None:  # the fast tiers ran out of steps before they compared anything
            return _Settled(False if ours is not None else None, "text", f"not shown to be equal: {doubt}")
        unproven = None if _hard(ours) else False
        if isinstance(doubt, Unbounded) or not policy.symbolic or not symbolic.available():
            return _Settled(unproven, "numeric", f"not shown to be equal: {doubt}")
        for _ in range(2):  # the second time with a worker that has just started
            try:
                with allowed(policy.max_steps):
                    same = Symbolic(policy).equal(theirs, ours)
                return _Settled(same, "symbolic", "equal" if same else "different")
            except symbolic.WorkerTimeout:
                continue
            except symbolic.WorkerDied as error:
                return _Settled(None, "infra", str(error))
            except (Undefined, Undecided, TooLarge, RecursionError) as error:
                return _Settled(unproven, "symbolic", f"not shown to be equal: {error}")
        return _Settled(None, "timeout", f"no decision within {policy.deadline_s:g} s of CPU time, tried twice")

    def verdict(self, settled: _Settled) -> Verdict:
        """The outcome, with what was read from each side."""
        failure: Failure = ""
        tier = settled.tier
        if settled.correct is None:
            failure = "timeout" if tier == "timeout" else "infra" if tier == "infra" else "reference"
            tier = ""
        reason = f"prediction {_shown(self.theirs)}, reference {_shown(self.ours)}: {settled.why}"
        return Verdict(settled.correct, reason, tier, failure, self.theirs.answer, self.ours.answer)


def _question(prediction: str, reference: str, policy: Policy | None, options: dict[str, Any]) -> _Question:
    chosen = _policy(policy, options)
    return _Question(prediction, read(prediction, chosen.extraction), read_reference(reference), chosen)


def _policy(policy: Policy | None, options: dict[str, Any]) -> Policy:
    if not options:
        return policy or DEFAULT
    base = policy or DEFAULT
    known = {name: getattr(base, name) for name in Policy.__slots__}
    unknown = options.keys() - known.keys()
    if unknown:
        raise TypeError(f"verify() has no option {min(unknown)!r}; there are {', '.join(sorted(known))}")
    return Policy(**known | options)


def _shown(side: Read) -> str:
    found = side.answer.text
    if not side.answer:
        return "(no answer found)"
    shown = found if len(found) <= 80 else f"{found[:60]}…{found[-16:]}"
    return f"{shown!r} ({side.answer.source})"


_CHOICES = frozenset("ABCDEFGHIJ")

_DIGITS = re.compile(r"\D+")
_HINTS = re.compile(r"boxed|[,=_A-Zk]|0[xbo]|base")
"""Signs that an answer may be read in a second way."""

_NOTATION = frozenset("\\^_")
"""Where these stand, a brace that is missing changes what is said."""


def _is_words(content: str) -> bool:
    """Whether an answer is text, such as a name or a phrase, rather than mathematics that failed to parse."""
    bare = texts.plain(content)
    return bool(bare) and "\\" not in bare and sum(c.isalpha() or c in "-'’ " for c in bare) >= 0.8 * len(bare)


_QUANTITY = re.compile(r"(.*[\d})])(?:\s|~|\\[ ,;:])+((?:\\?[A-Za-zμ°Ω$]+(?:\^\{?-?\d\}?)?[\s*/·]*)+)")


def _quantity_equal(theirs: Read, ours: Read, comparison: Comparison) -> bool:
    """Whether sides such as `10 m/s`, read as products of variables, are equal once their letters are read as units."""
    sides = [_quantity(theirs), _quantity(ours)]
    read = [side.expr if quantity is None else quantity for side, quantity in zip((theirs, ours), sides, strict=True)]
    if sides == [None, None] or None in read or any(e is not None and e.head != "unit" and symbols(e) for e in read):
        return False
    try:
        return comparison.equal(*(e for e in read if e is not None))
    except MathError:
        return False


def _quantity(side: Read) -> Expr | None:
    """A number with a unit, where that is how the letters behind a number can be read."""
    if side.expr is None or len(side.answer.text) > 100 or side.expr.features.isdisjoint(("sym", "word")):
        return None
    match = _QUANTITY.fullmatch(side.answer.text)
    if match is None or unit(match[2].replace("\\", "")) is None:
        return None
    try:
        return Expr("unit", parse(match[1]), match[2])
    except MathError:
        return None


class Symbolic(Comparison):
    """The same comparison, which asks the symbolic tier about the values that the numeric one leaves open."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.deadline = symbolic.Deadline(policy.deadline_s)

    def reading(self, a: Expr, b: Expr, log: str) -> bool:
        """As in the tiers above, then as the symbolic tier says."""
        try:
            return super().reading(a, b, log)
        except (Undecided, TooLarge) as error:
            same = symbolic.same(a, b, log or "e", self.deadline, self.policy.memory_bytes)
            if same is None:
                raise Undecided(str(error)) from None
            return same


def _hard(expr: Expr) -> bool:
    """Whether a reference holds what the fast tiers have no values for: then it is not the prediction that is at fault."""
    return any(n.head in ("big", "cases", "builder") for n in expr.walk())
