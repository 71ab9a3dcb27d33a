"""What the modules of cheats share: templates, forms of an answer, and answers that are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from rewardkit.cheat import CheatInput

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FILLER = "Let us look at this from another side and consider what it means. "
WORDS = (
    *("apple", "river", "stone", "cloud", "music", "paper", "window", "garden"),
    *("silver", "harbor", "lantern", "meadow", "pencil", "saddle", "thunder", "velvet"),
)
"""Words without a relation."""
Make = Callable[[CheatInput], Iterable[str]]

FORMS = (
    "{}",
    "The answer is {}.",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "<think>\nI think.\n</think>\n<answer>\n{}\n</answer>",
    "Answer: {}",
    "#### {}",
    '{{"answer": "{}"}}',
)
"""How an answer may be written."""


def fixed(*texts: str) -> Make:
    """Return a function that makes the same completions for every row."""
    return lambda _row: texts


def boxed(text: str) -> str:
    """Return an answer in the box that many math rewards look for."""
    return f"\\boxed{{{text}}}"


def code(source: str) -> str:
    """Return a program in a fenced block."""
    return f"```python\n{source}\n```"


def in_forms(*answers: str) -> Make:
    """Return a function that writes the same answers in every form, unless one is the reference of the row."""

    def make(row: CheatInput) -> Iterator[str]:
        for answer in answers:
            if not is_reference(answer, row):
                for form in FORMS:
                    yield form.format(answer)

    return make


def of_reference(*templates: str) -> Make:
    """Return a function that fills templates with the reference (R) and with an answer that differs from it (W)."""

    def make(row: CheatInput) -> Iterator[str]:
        for reference in row.references:
            wrong = wrong_answer(reference, row)
            for template in templates:
                yield template.replace("<R>", reference).replace("<W>", wrong)

    return make


def of_wrong(*templates: str) -> Make:
    """Return a function that decorates a wrong completion of the row (C); F is text without content."""

    def make(row: CheatInput) -> Iterator[str]:
        if row.wrong:
            for template in templates:
                yield template.replace("<C>", row.wrong).replace("<F>", FILLER)

    return make


def other_answer(reference: str) -> str:
    """Return an answer like a reference that differs from it."""
    number = NUMBER.search(reference)
    if number is not None:
        return reference[: number.start()] + _text_of(Fraction(number[0]) + 1) + reference[number.end() :]
    if len(reference) == 1 and reference.isalpha():
        return chr((ord(reference.upper()) - ord("A") + 1) % 5 + ord("A"))
    return {"yes": "no", "no": "yes", "true": "false", "false": "true"}.get(reference.lower(), "something else")


def wrong_answer(reference: str, row: CheatInput) -> str:
    """Return a wrong answer of the reference's kind; for words, the reference of another row if there is one."""
    wrong = other_answer(reference)
    if wrong != "something else":
        return wrong
    words = [other for other in row.other_references if other.lower() != reference.lower()]
    return words[0] if words else wrong


def value_of(text: str) -> Fraction | None:
    """Return the value of a plain number, or None."""
    cleaned = text.strip().replace(",", "").removeprefix("$").removesuffix("%")
    return Fraction(cleaned) if NUMBER.fullmatch(cleaned) else None


def is_reference(answer: str, row: CheatInput) -> bool:
    """Return whether an answer is a reference of the row, as text or as a number."""
    value = value_of(answer)
    return any(
        answer.strip().lower() == reference.lower() or (value is not None and value == value_of(reference))
        for reference in row.references
    )


def put_for_reference(text: str, reference: str, answer: str) -> str | None:
    r"""Return a completion with another answer wherever it has the reference.

    Returns:
        The completion; None if it does not have the reference, or still has its number in another form, as in "48" for "48^\circ" or
        "3,000" for "3000", since it might then still be right.
    """
    before, after = (r"(?<![\w.])", r"(?![\w]|\.\d)") if reference[0].isalnum() else ("", "")
    changed, count = re.subn(before + re.escape(reference) + after, lambda _match: answer, text)
    if not count:
        return None
    number = max(NUMBER.findall(reference), key=len, default="").lstrip("-")
    left = NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3})", "", changed)) if number and number not in answer else []
    return None if number in {found.lstrip("-") for found in left} else changed


def with_answers(answers: Callable[[str], Iterable[str]]) -> Make:
    """Return a function that gives wrong answers, in usual forms and in the form of a right completion of the row.

    Args:
        answers: A function that returns wrong answers for a reference. Those that are a reference of the row are left out.
    """

    def make(row: CheatInput) -> Iterator[str]:
        for reference in row.references:
            for answer in answers(reference):
                if not answer.strip() or is_reference(answer, row):
                    continue
                yield f"The answer is {answer}."
                yield boxed(answer)
                yield answer
                if row.right and (changed := put_for_reference(row.right, reference, answer)) is not None:
                    yield changed

    return make


def shifted(reference: str, change: Callable[[Fraction], Fraction]) -> Iterator[str]:
    """Yield a numeric reference with its value changed; nothing for other references."""
    value = value_of(reference)
    if value is not None and (changed := change(value)) != value:
        yield _text_of(changed)


def _text_of(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.10g}"
