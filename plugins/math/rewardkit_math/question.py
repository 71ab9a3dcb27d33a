"""One comparison: a prediction and a reference that have been read, and the tiers that compare them."""

from __future__ import annotations

import re
from typing import NamedTuple

from rewardkit_math import symbolic
from rewardkit_math.comparison import Comparison
from rewardkit_math.errors import MathError, TooLarge, Unbounded, Undecided, Undefined
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.form import decimal_places, unsimplified
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import text as texts
from rewardkit_math.policy import Policy
from rewardkit_math.reading import Read, alternatives, read_boxes, read_phrase, same_digits, word_count
from rewardkit_math.units import plain_unit, unit
from rewardkit_math.work import allowed


class Outcome(NamedTuple):
    """The outcome of a tier."""

    correct: bool | None
    """True if the answers are equal; None if there is no verdict."""

    tier: str
    """The tier that decided; the kind of failure if there is no verdict."""

    why: str
    """The reason, in words."""


class Question(NamedTuple):
    """A prediction and a reference that have been read, and the policy that they are compared by."""

    prediction: str
    theirs: Read
    ours: Read
    policy: Policy

    def fast(self, max_steps: int) -> Outcome | MathError:
        """Return the outcome of all tiers but the symbolic one, or why they leave it open."""
        try:
            with allowed(max_steps):
                return self._decided()
        except RecursionError:
            return TooLarge("an expression nested too deeply")
        except TooLarge as error:
            return error

    def all_tiers(self) -> Outcome:
        """Return the outcome of all tiers, after fast tiers that were stopped before their last step."""
        outcome = self.fast(self.policy.max_steps)
        return outcome if isinstance(outcome, Outcome) else self.slow(outcome)

    def _decided(self) -> Outcome | MathError:
        """Return the outcome of the fast tiers; raises TooLarge if they take too many steps."""
        theirs, ours = self.theirs, self.ours
        if not ours.answer:
            return Outcome(None, "", f"the reference contains no answer: {ours.problem}")
        if not theirs.answer:
            return Outcome(False, "text", "the prediction contains no answer")
        a, b = theirs.expr, ours.expr
        policy = self.policy
        if (
            a is not None
            and a.head == "num"
            and a.args[1] is None
            and a == b
            and policy.form == "any"
            and policy.decimal_places is None
        ):  # the most common case
            return Outcome(True, "rational", "equal")
        first, second = theirs.answer.text, ours.answer.text
        if (
            ours.expr is None
            and ours.answer.source == "text"
            and texts.chemical(second) is None
            and not _is_name(second)
        ):
            return Outcome(None, "", f"the reference can't be understood: {ours.problem}")
        if ours.answer.source == "text" and len(self.prediction) <= 2 * len(second) + 100:
            whole = texts.to_latex(self.prediction.strip())
            if whole == second:  # a prediction that is the whole reference is right, whatever answer is read from it
                return Outcome(True, "text", "written alike")
        fault = self._fault()
        if fault is not None:
            return Outcome(False, "text", f"the form of the prediction: {fault}")
        if a is not None and b is not None and a.head == b.head == "num" and a.args[1] is b.args[1] is None:
            same = a.args[0] == b.args[0] or (policy.tolerance > 1e-6 and Comparison(self.policy).equal(a, b))
            return Outcome(same, "rational", "equal" if same else "different")
        if first == second or texts.typographic(first) == texts.typographic(second):
            return Outcome(True, "text", "written alike")
        if len(first) < 120 and len(second) < 120 and any(c.isupper() for c in second):
            formulas = texts.chemical(first), texts.chemical(second)
            if formulas[0] is not None and formulas[0] == formulas[1]:
                return Outcome(True, "text", "the same chemical formula")
            if ours.expr is None and formulas[1] is not None:
                return Outcome(False, "text", "a different chemical formula")
        if b is not None and b.head == "phrase":
            outcome = self._phrased(b)
        elif a is not None and b is not None:
            if b.head == a.head == "sym" and b.args[0] in _CHOICES and a.args[0] == b.args[0].casefold():
                return Outcome(True, "text", "the same letter")
            outcome = self._compared(a, b)
        else:
            outcome = None
        if isinstance(outcome, Outcome) and outcome.correct:
            return outcome
        return self._second_look(first, second) or outcome or self._unread(second)

    def _second_look(self, first: str, second: str) -> Outcome | None:
        """Return a positive outcome if the sides are equal in another spelling or reading, else None."""
        theirs, ours = self.theirs, self.ours
        if theirs.answer.source == "boxed" and ours.expr is not None and ours.expr.head == "seq":
            together = self._all_boxes(ours.expr)
            if together is not None:
                return together
        alike = len(first) < 400 and len(second) < 400 and _DIGITS.sub("", first) == _DIGITS.sub("", second)
        if alike and texts.spelled_out(first) == texts.spelled_out(second):
            return Outcome(True, "text", "written alike")
        if theirs.expr is not None and ours.expr is not None and not _HINTS.search(first) and not _HINTS.search(second):
            return None
        plain = texts.plain(first), texts.plain(second)
        if (
            plain[0] == plain[1]
            and plain[0]
            and not set(plain[0]) & _NOTATION
            and (theirs.expr is None or ours.expr is None)
        ):
            return Outcome(True, "text", "the same words")
        if same_digits(first, second):
            return Outcome(True, "text", "the same digits")
        for mine in (theirs.expr, *alternatives(first, ours.expr, prediction=True)):
            for other in (ours.expr, *alternatives(second, mine, prediction=False)):
                if mine is None or other is None or (mine is theirs.expr and other is ours.expr):
                    continue
                outcome = self._compared(mine, other)
                if isinstance(outcome, Outcome) and outcome.correct:
                    return outcome
        return None

    def _unread(self, second: str) -> Outcome:
        """Return the outcome if a side has no expression."""
        theirs, ours = self.theirs, self.ours
        if ours.expr is None and not _is_words(second):
            return Outcome(None, "", f"the reference can't be understood: {ours.problem}")
        if ours.expr is None:
            return Outcome(False, "text", "the words differ from those of the reference")
        return Outcome(False, "text", f"the prediction can't be understood: {theirs.problem}")

    def _fault(self) -> str | None:
        """Return what is wrong with the form of the prediction, under a policy that asks for one, or None."""
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

    def _phrased(self, ours: Expr) -> Outcome | MathError:
        """Return the outcome for a reference of words and formulas.

        The same words with equal formulas are equal, other words in their places or other formulas are different. An answer of
        another form, such as a formula alone, can't be judged.
        """
        theirs = self.theirs.expr
        if theirs is None or theirs.head != "phrase":
            found = read_phrase(self.prediction, self.policy.extraction)
            theirs = found.expr if found is not None else theirs
        if theirs is not None and theirs.head == "phrase" and _pattern(theirs) == _pattern(ours):
            return self._compared(theirs, ours)
        if not word_count(ours):
            return Outcome(False, "text", "the words differ from those of the reference")
        return Outcome(None, "", "the reference is a sentence; an answer of another form can't be compared with it")

    def _all_boxes(self, ours: Expr) -> Outcome | None:
        """Return a positive outcome if all boxes of the prediction together are the reference, a list; else None."""
        wanted = ours.args[1:] if ours.head == "seq" and ours.args[0] in ("", "{}", "()") else None
        found = read_boxes(self.prediction) if wanted and len(wanted) > 1 else []
        if wanted is None or len(found) != len(wanted):
            return None
        values = [read.expr for read in found]
        if any(value is None for value in values):
            return None
        outcome = self._compared(Expr("seq", "", *values), ours)
        return outcome if isinstance(outcome, Outcome) and outcome.correct else None

    def _compared(self, theirs: Expr, ours: Expr) -> Outcome | MathError:
        """Return the outcome of comparing two expressions, or why it is left open."""
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
            return Outcome(False, comparison.tier, f"one side has no value: {error}")
        except (Undecided, TooLarge) as error:
            return error
        if renamed:
            return Outcome(True, comparison.tier, "equal up to the names of constants")
        if as_units:
            return Outcome(True, comparison.tier, "equal up to a unit")
        return Outcome(same, comparison.tier, "equal" if same else "different")

    def slow(self, doubt: MathError) -> Outcome:
        """Return the outcome of the symbolic tier, for what the others leave open."""
        theirs, ours, policy = self.theirs.expr, self.ours.expr, self.policy
        if theirs is None or ours is None:  # the fast tiers ran out of steps before they compared anything
            return Outcome(False if ours is not None else None, "text", f"not shown to be equal: {doubt}")
        unproven = None if _hard(ours) else False
        if isinstance(doubt, Unbounded) or not policy.symbolic or not symbolic.available():
            return Outcome(unproven, "numeric", f"not shown to be equal: {doubt}")
        for _ in range(2):  # the second time with a worker that has just started
            try:
                with allowed(policy.max_steps):
                    same = Symbolic(policy).equal(theirs, ours)
                return Outcome(same, "symbolic", "equal" if same else "different")
            except symbolic.WorkerTimeout:
                continue
            except symbolic.WorkerDied as error:
                return Outcome(None, "infra", str(error))
            except (Undefined, Undecided, TooLarge, RecursionError) as error:
                return Outcome(unproven, "symbolic", f"not shown to be equal: {error}")
        return Outcome(None, "timeout", f"no decision within {policy.deadline_s:g} s of CPU time, tried twice")


def _pattern(phrase: Expr) -> list[bool]:
    """Return which parts of a phrase are words."""
    return [part.head == "text" for part in phrase.args]


_CHOICES = frozenset("ABCDEFGHIJ")
"""Letters that as a reference name a choice; their case in the prediction is ignored."""

_DIGITS = re.compile(r"\D+")
_HINTS = re.compile(r"[,=_A-Zk]|0[xbo]|base")
"""Characters that occur in answers with a second reading."""

_NOTATION = frozenset("\\^_")
"""Characters of notation in which braces matter."""


def _is_name(content: str) -> bool:
    """Return whether an answer is a few words rather than a sentence."""
    return _is_words(content) and len(content.split()) < 7


def _is_words(content: str) -> bool:
    """Return whether an answer is text, such as a name or a phrase, rather than mathematics that failed to parse."""
    bare = texts.plain(content)
    return bool(bare) and "\\" not in bare and sum(c.isalpha() or c in "-'’ " for c in bare) >= 0.8 * len(bare)


_QUANTITY = re.compile(r"(.*[\d})])(?:\s|~|\\[ ,;:])+((?:\\?[A-Za-zμ°Ω$]+(?:\^\{?-?\d\}?)?[\s*/·()]*)+)")


def _quantity_equal(theirs: Read, ours: Read, comparison: Comparison) -> bool:
    """Return whether sides such as `10 m/s`, read as products of variables, are equal once their letters are read as units."""
    sides = [_quantity(theirs), _quantity(ours)]
    read = [side.expr if quantity is None else quantity for side, quantity in zip((theirs, ours), sides, strict=True)]
    if sides == [None, None] or None in read or any(e is not None and e.head != "unit" and symbols(e) for e in read):
        return False
    try:
        return comparison.equal(*(e for e in read if e is not None))
    except MathError:
        return False


def _quantity(side: Read) -> Expr | None:
    """Return a number with a unit if the letters after the number are a unit, else None."""
    if side.expr is None or len(side.answer.text) > 100 or side.expr.features.isdisjoint(("sym", "word")):
        return None
    match = _QUANTITY.fullmatch(side.answer.text)
    written = plain_unit(match[2]) if match is not None else ""
    if match is None or unit(written) is None:
        return None
    try:
        return Expr("unit", parse(match[1]), written)
    except MathError:
        return None


class Symbolic(Comparison):
    """A comparison that asks sympy about values that the numeric tier can't decide."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.deadline = symbolic.Deadline(policy.deadline_s)

    def reading(self, a: Expr, b: Expr, log: str) -> bool:
        """Return what the tiers above find, or else what sympy finds."""
        try:
            return super().reading(a, b, log)
        except (Undecided, TooLarge) as error:
            same = symbolic.same(a, b, log or "e", self.deadline, self.policy.memory_bytes)
            if same is None:
                raise Undecided(str(error)) from None
            return same


def _hard(expr: Expr) -> bool:
    """Return whether a reference contains notation that the fast tiers can't evaluate, so that the prediction is not at fault."""
    return any(n.head in ("big", "cases", "builder") for n in expr.walk())
