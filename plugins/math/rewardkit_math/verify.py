"""The verifier: extraction, the tiers one below the other, and a verdict that explains itself."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from rewardkit_math import symbolic
from rewardkit_math import text as texts
from rewardkit_math.compare import Comparison
from rewardkit_math.errors import MathError, ParseError, TooLarge, Undecided, Undefined
from rewardkit_math.expr import Expr, symbols
from rewardkit_math.extract import Answer, candidates, is_prose, without_delimiters
from rewardkit_math.lexer import MAX_DIGITS, number
from rewardkit_math.normal import MAX_BITS
from rewardkit_math.parser import parse
from rewardkit_math.policy import Policy
from rewardkit_math.vocabulary import UNITS

DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a prediction equals a reference, and why."""

    correct: bool | None
    """None: no verdict, and not the prediction's fault (see `failure`)."""

    reason: str
    """What was extracted from each side, in which tier it was decided, and why."""

    tier: str
    """The tier that decided: text, rational, normal form, structure, numeric or symbolic; "" without a decision."""

    failure: Literal["", "reference", "timeout"] = ""
    """Why there is no verdict: the reference can't be understood, or the deadline passed."""

    prediction: Answer | None = None
    reference: Answer | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """One side, read: the answer found, and its expression where it has one."""

    answer: Answer
    expr: Expr | None
    problem: str = ""


def verify(prediction: str, reference: str, *, policy: Policy | None = None, **options: Any) -> Verdict:
    """Decide whether `prediction` gives the same answer as `reference`.

    Both may be a bare answer or a whole text with an answer in it.

    Args:
        prediction: What is judged.
        reference: What it is judged by.
        policy: Conventions, see `Policy`.
        **options: Fields of `Policy`, on top of `policy`.

    Returns:
        A verdict. Never raises for any text; `correct` is None where the reference can't be understood or time ran out.
    """
    chosen = _policy(policy, options)
    started = time.monotonic()
    ours = _read_reference(reference, chosen.extraction)
    theirs = _read(prediction, chosen.extraction)
    correct, tier, why = _decide(theirs, ours, chosen, started)
    failure: Literal["", "reference", "timeout"] = ""
    if correct is None:
        failure = "timeout" if tier == "timeout" else "reference"
        tier = ""
    shown = f"prediction {_shown(theirs)}, reference {_shown(ours)}: {why}"
    return Verdict(correct, shown, tier, failure, theirs.answer, ours.answer)


def _policy(policy: Policy | None, options: dict[str, Any]) -> Policy:
    if not options:
        return policy or DEFAULT
    base = policy or DEFAULT
    known = {name: getattr(base, name) for name in Policy.__slots__}
    unknown = options.keys() - known.keys()
    if unknown:
        raise TypeError(f"verify() has no option {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
    return Policy(**known | options)


def _shown(side: _Read) -> str:
    found = side.answer.text
    if not side.answer:
        return "(no answer found)"
    shown = found if len(found) <= 80 else f"{found[:60]}…{found[-16:]}"
    return f"{shown!r} ({side.answer.source})"


# ---- reading


@lru_cache(maxsize=2048)
def _read_reference(text: str, sources: tuple[str, ...]) -> _Read:
    """A reference, which a group of completions shares."""
    return _read(text, sources)


def _read(text: str, sources: tuple[str, ...]) -> _Read:
    """The first answer in the text that is understood, else the first one at all."""
    first: _Read | None = None
    for index, answer in enumerate(candidates(text, sources)):
        if answer.source == "text" and first is not None:
            break
        read = understood(answer)
        if read.expr is not None or answer.source in ("tag", "boxed", "hash"):
            return read
        first = first or read
        if index >= 8:
            break
    return first or _Read(Answer("", ""), None, "no answer found")


_TRAILING = re.compile(r"(?:[\s.,;:]|\\[,;:! ]|\\\\)+$")


def understood(answer: Answer) -> _Read:
    """Parse an answer; where it is a sentence, what the sentence says."""
    content = answer.text
    rational = _rational(content)
    if rational is not None:
        return _Read(answer, rational)
    stripped = without_delimiters(_TRAILING.sub("", content)).strip()
    if stripped.startswith("\\text{") and stripped.find("}") == len(stripped) - 1:
        stripped = stripped[6:-1].strip()
    said = PHRASES.get(texts.plain(stripped)) if len(stripped) < 40 else None
    said = said or _clock(stripped)
    if said is not None:
        return _Read(answer, said)
    if not is_prose(stripped):
        try:
            return _Read(answer, parse(stripped))
        except (ParseError, TooLarge, Undefined) as error:
            if answer.source not in ("boxed", "tag", "bare", "hash") or not any(c.isalpha() for c in stripped):
                return _Read(answer, None, str(error))
            problem = str(error)
    else:
        problem = "a sentence"
    if len(stripped) < 400 and answer.source in ("boxed", "tag", "bare", "hash") and "\\" not in stripped:
        for inner in candidates(stripped, ("phrase", "math", "number")):
            try:
                return _Read(answer, parse(inner.text), "")
            except MathError:
                continue
    return _Read(answer, None, problem)


_REALS, _EMPTY = Expr("const", "R"), Expr("const", "empty")
PHRASES = {
    **dict.fromkeys(("allrealnumbers", "allreals", "realnumbers", "anyrealnumber", "allrealnumber", "allrealvalues"), _REALS),
    **dict.fromkeys(("nosolution", "nosolutions", "norealsolution", "norealsolutions", "emptyset", "theemptyset"), _EMPTY),
}
"""Words that mean a set, without their spaces."""

_CLOCK = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?([ap])\.?m\.?")


def _clock(content: str) -> Expr | None:
    """A time of day with its half: `4:30 \\text{ p.m.}`, `7 AM`."""
    if len(content) > 60 or not (":" in content or "m" in content or "M" in content):
        return None
    match = _CLOCK.fullmatch(texts.plain(content))
    if match is None or int(match[1]) > 12 or int(match[2] or 0) > 59:
        return None
    return Expr("clock", int(match[1]) % 12 * 60 + int(match[2] or 0), match[3] + "m")
_RATIONAL = re.compile(
    r"(-?)(?:(\d{1,400})|(\d{1,400}\.\d{0,400}(?:[eE][+-]?\d{1,3})?|\d{1,20}[eE][+-]?\d{1,3})"
    r"|\\[dt]?frac\{(-?\d{1,400})\}\{(\d{1,400})\}|(\d{1,400})/(\d{1,400}))"
)


def _rational(content: str) -> Expr | None:
    """A plain numeral or fraction, read without the parser; None for anything else."""
    match = _RATIONAL.fullmatch(content)
    if match is None:
        return None
    sign, whole, decimal, top, bottom, left, right = match.groups()
    places: int | None = None
    value: int | Fraction
    if whole is not None:
        value = int(whole)
    elif decimal is not None:
        value, places = number(decimal)
    else:
        numerator, denominator = int(top or left), int(bottom or right)
        if not denominator:
            return None
        quotient, rest = divmod(numerator, denominator)
        value = Fraction(numerator, denominator) if rest else quotient
    return Expr("num", -value if sign else value, places)


# ---- deciding


def _decide(theirs: _Read, ours: _Read, policy: Policy, started: float) -> tuple[bool | None, str, str]:
    """The verdict (None: none), its tier ("timeout" where time ran out), and why."""
    if not ours.answer:
        return None, "", "the reference gives no answer"
    if not theirs.answer:
        return False, "text", "the prediction gives no answer"
    form = _form(theirs, policy)
    if form is not None:
        return False, "text", form
    first, second = theirs.answer.text, ours.answer.text
    if texts.typographic(first) == texts.typographic(second):
        return True, "text", "written alike"
    if theirs.expr is not None and ours.expr is not None:
        return _compared(theirs, ours, policy, started)
    plain = texts.plain(first), texts.plain(second)
    if plain[0] == plain[1] and plain[0]:
        return True, "text", "the same words"
    if ours.expr is None and not _is_words(second):
        return None, "", f"the reference can't be understood: {ours.problem}"
    if ours.expr is None:
        return False, "text", "other words than the reference"
    return False, "text", f"the prediction can't be understood: {theirs.problem}"


def _is_words(content: str) -> bool:
    """Whether an answer is text, such as a name or a phrase, rather than mathematics that failed to parse."""
    bare = texts.plain(content)
    return bool(bare) and sum(c.isalpha() or c in "-'’ " for c in bare) >= 0.8 * len(bare)


def _compared(theirs: _Read, ours: _Read, policy: Policy, started: float) -> tuple[bool | None, str, str]:
    assert theirs.expr is not None  # noqa: S101 - the caller has looked
    assert ours.expr is not None  # noqa: S101
    comparison = Comparison(policy)
    try:
        same = comparison.equal(theirs.expr, ours.expr)
    except Undefined as error:
        return False, comparison.tier, f"one side has no value: {error}"
    except (Undecided, TooLarge, RecursionError) as error:
        doubt = str(error)
    else:
        if same or not _quantity_equal(theirs, ours, comparison):
            return same, comparison.tier, "equal" if same else "different"
        return True, comparison.tier, "equal up to a unit"
    if not policy.symbolic or not symbolic.available():
        return (None if _hard(ours.expr) else False), comparison.tier, f"not shown to be equal ({doubt})"
    deadline = started + policy.deadline_s
    comparison = Symbolic(policy, deadline)
    try:
        same = comparison.equal(theirs.expr, ours.expr)
    except symbolic.WorkerTimeout as error:
        if error.computing and not _hard(ours.expr):
            return False, "symbolic", f"the prediction can't be computed within {policy.deadline_s:g} s"
        return None, "timeout", f"no decision within {policy.deadline_s:g} s"
    except (Undefined, Undecided, TooLarge, RecursionError, symbolic.WorkerDied) as error:
        return (None if _hard(ours.expr) else False), "symbolic", f"not shown to be equal ({error})"
    return same, "symbolic", "equal" if same else "different"


_QUANTITY = re.compile(r"(.*[\d})])(?:\s|~|\\[ ,;:])+((?:\\?[A-Za-zμ°$]+(?:\^\{?-?\d\}?)?[\s*/·]*)+)")


def _quantity_equal(theirs: _Read, ours: _Read, comparison: Comparison) -> bool:
    """Whether a side such as `10 m/s`, read as a product of variables, equals a bare number once its letters are read as units."""
    for side, other in ((theirs, ours), (ours, theirs)):
        if side.expr is None or other.expr is None or not symbols(side.expr) or symbols(other.expr):
            continue
        match = _QUANTITY.fullmatch(side.answer.text) if len(side.answer.text) < 100 else None
        if match is None or any(w not in UNITS for w in re.findall(r"[A-Za-zμ°$]+", match[2])):
            continue
        try:
            value = Expr("unit", parse(match[1]), match[2])
            return comparison.equal(*((value, other.expr) if side is theirs else (other.expr, value)))
        except MathError:
            return False
    return False


class Symbolic(Comparison):
    """The same comparison, which asks the symbolic tier about the values that the numeric one leaves open."""

    def __init__(self, policy: Policy, deadline: float) -> None:
        super().__init__(policy)
        self.deadline = deadline

    def reading(self, a: Expr, b: Expr, log: str) -> bool:
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


def _form(theirs: _Read, policy: Policy) -> str | None:
    """What is wrong with the form of the prediction, under policies that ask for one."""
    if policy.form == "any" and policy.decimal_places is None:
        return None
    expr = theirs.expr
    if policy.decimal_places is not None:
        places = expr.args[1] if expr is not None and expr.head == "num" else None
        if (places or 0) != policy.decimal_places:
            return f"the prediction has {places or 0} decimal places, not {policy.decimal_places}"
    return None


__all__ = ["MAX_BITS", "MAX_DIGITS", "Verdict", "verify"]
