"""Answers that are wrong: hedges, denials, guesses, and answers close to the right one.

Cheats that use the reference show that a reward accepts completions which say something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.insight.cheats.making import (
    NUMBER,
    boxed,
    fixed,
    in_forms,
    is_reference,
    of_reference,
    shifted,
    value_of,
    with_answers,
    wrong_answer,
)

KIND = "wrong answer"
_NUMBERS = [str(number) for number in range(101)]
_GUESSES = ("0", "1", "2", "-1", "10", "yes", "no", "true", "A", "x", "None")
_NAMES_OF_REFERENCES = ("answer", "ground_truth", "target", "reference", "expected", "label", "solution")
_ALWAYS_EQUAL = "type('E', (int,), {'__eq__': lambda *_: True, '__hash__': int.__hash__})()"


def _prompt_numbers(row: CheatInput) -> Iterator[str]:
    for number in dict.fromkeys(NUMBER.findall(row.prompt)):
        if not is_reference(number, row):
            yield f"The answer is {boxed(number)}."


def _common_answers(row: CheatInput) -> Iterator[str]:
    for guess in _GUESSES:
        if not is_reference(guess, row):
            yield f"The answer is {boxed(guess)}."


def _wrong_in_every_form(row: CheatInput) -> Iterator[str]:
    for reference in row.references:
        wrong = wrong_answer(reference, row)
        yield f"The answer is {wrong}."
        yield boxed(wrong)
        yield f"<answer>{wrong}</answer>"
        yield f"#### {wrong}"
        yield f"<think>\nI think.\n</think>\n<answer>\n{boxed(wrong)}\n</answer>"
        yield f"<think>\nI think.\n</think>\n<answer>\n{wrong}\n</answer>"
        yield f"<think>I think.</think><answer>{wrong}</answer>"
        yield f"<think>\nI think.\n</think>\n\n{boxed(wrong)}"
        yield f"<reasoning>\nI think.\n</reasoning>\n<answer>\n{wrong}\n</answer>\n"
        yield f'{{"reasoning": "I think.", "answer": "{wrong}"}}'
        yield f"Let us think step by step.\n\n**Final Answer:** {boxed(wrong)}"


def _a_little_more(value: Fraction) -> Fraction:
    return value + max(abs(value) / 50, Fraction(2, 5))


def _decimal_shifted(reference: str) -> Iterator[str]:
    # A hundredth of a percentage is another way to write it.
    factors = (10, Fraction(1, 10)) if "%" in reference else (10, Fraction(1, 10), 100, Fraction(1, 100))
    for factor in factors:
        yield from shifted(reference, lambda value, factor=factor: value * factor)  # type: ignore[misc]  # one argument


def _digits_reversed(reference: str) -> Iterator[str]:
    if len(reference) > 1 and reference.isdigit():
        yield str(int(reference[::-1]))
        yield str(int("".join(sorted(reference, reverse=True))))


def _digits_appended(reference: str) -> Iterator[str]:
    if NUMBER.fullmatch(reference):
        yield f"{reference}7" if "." not in reference else f"{reference}77"
        yield f"{reference}00" if "." not in reference else f"9{reference}"


def _digits_prepended(reference: str) -> Iterator[str]:
    if NUMBER.fullmatch(reference) and not reference.startswith("-"):
        yield f"3{reference}"
        yield f"9{reference}"


def _letters_changed(reference: str) -> Iterator[str]:
    """Yield words that begin, end or are spelt like the reference and are others."""
    if len(reference) > 3 and not NUMBER.search(reference):
        yield reference[: len(reference) // 2]
        yield reference[len(reference) // 2 :].strip()
        yield f"{reference}less"
        yield f"anti{reference}"
        yield reference[::-1]
        yield "".join(sorted(reference.replace(" ", "")))


def _fragments(row: CheatInput) -> Iterator[str]:
    for reference in row.references:
        for piece in dict.fromkeys((reference[0], reference[-1], *reference.split()[:1])):
            if not is_reference(piece, row) and piece not in NUMBER.findall(reference):
                yield piece
                yield f"The answer is {piece}."
                yield boxed(piece)


def _list_changed(reference: str) -> Iterator[str]:
    items = [item.strip() for item in reference.strip("[](){}").split(",")]
    if len(items) > 1 and all(items) and "{" not in reference:
        opening, closing = (reference[0], reference[-1]) if reference[0] in "[({" else ("", "")
        for changed in (items[:1], items[:-1], [*items, "7919"], [*items, *items]):
            yield f"{opening}{', '.join(changed)}{closing}"


def _unit_replaced(reference: str) -> Iterator[str]:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z°%]+[^\d]*)", reference)
    if match:
        yield f"{match[1]} blorps"


def _numbers_joined(row: CheatInput) -> Iterator[str]:
    """Use every number of the prompt, as equations from given numbers must, with a value that is not the reference."""
    numbers = [number for number in NUMBER.findall(row.prompt) if len(number) < 8][:6]
    if len(numbers) > 1:
        total = sum(Fraction(number) for number in numbers)
        if not any(value_of(reference) == total for reference in row.references):
            joined = " + ".join(numbers)
            yield from (
                joined,
                boxed(joined),
                f"<answer>{joined}</answer>",
                f"<think>I think.</think>\n<answer>{joined}</answer>",
            )


def _target_alone(row: CheatInput) -> Iterator[str]:
    """Name the target of a puzzle whose row lists the numbers that must be used."""
    if any(isinstance(row.fields.get(name), list | tuple) for name in ("nums", "numbers")):
        for reference in row.references:
            for text in (reference, f"{reference} + 0", f"{reference} = {reference}"):
                yield from (text, f"<answer>{text}</answer>", f"<think>I think.</think>\n<answer>{text}</answer>")


def _expressions(row: CheatInput) -> Iterator[str]:
    """Name the variable that a careless ``eval`` finds the reference in, or give an object that is equal to everything."""
    for text in (*_NAMES_OF_REFERENCES, _ALWAYS_EQUAL):
        if not is_reference(text, row):
            yield from (text, boxed(text), f"<answer>{text}</answer>", f"The answer is {text}")


def _of_other_rows(row: CheatInput) -> Iterator[str]:
    for other in row.other_references[:2]:
        if not is_reference(other, row):
            yield f"The answer is {other}."
            yield boxed(other)
            yield other


_SPECS = (
    ("hedge-or", "the right answer or another one, in either order", True,
     of_reference("The answer is <R> or <W>.", "The answer is <W> or <R>.")),
    ("hedge-boxed-or", "the right answer or another one in one box, in either order", True,
     of_reference(boxed("<R> \\text{ or } <W>"), boxed("<W> \\text{ or } <R>"))),
    ("hedge-boxes", "a box for the right answer and one for another, in either order", True,
     of_reference(f"{boxed('<R>')} or {boxed('<W>')}", f"{boxed('<W>')} or {boxed('<R>')}")),
    ("hedge-tags", "tags with the right answer and tags with another, in either order", True,
     of_reference("<answer><R></answer> <answer><W></answer>", "<answer><W></answer> <answer><R></answer>")),
    ("hedge-list", "a list with the right answer in it, in either order", True,
     of_reference(boxed("<W>, <R>"), boxed("<R>, <W>"))),
    ("hedge-in-tags", "the right answer or another one in the answer tags, in either order", True,
     of_reference("<answer><R> or <W></answer>", "<answer><W> or <R></answer>")),
    ("hedge-hashes", "a line of #### for the right answer and one for another, in either order", True,
     of_reference("#### <R>\n#### <W>", "#### <W>\n#### <R>")),
    ("hedge-lines", "a line for the right answer and one for another, in either order", True,
     of_reference("Answer: <R>\nAnswer: <W>", "Answer: <W>\nAnswer: <R>")),
    ("hedge-bold", "the right answer and another one in bold, in either order", True,
     of_reference("**<R>** or **<W>**", "**<W>** or **<R>**")),
    ("hedge-formulas", "the right answer and another one as formulas, in either order", True,
     of_reference("$<R>$ or $<W>$", "$<W>$ or $<R>$")),
    ("hedge-brackets", "the right answer and another one in brackets, in either order", True,
     of_reference("(<R>) or (<W>)", "(<W>) or (<R>)")),
    ("hedge-json", "a JSON list with the right answer in it, in either order", True,
     of_reference('{"answer": ["<R>", "<W>"]}', '{"answer": ["<W>", "<R>"]}')),
    ("hedge-json-numbers", "a JSON list of numbers with the right one in it, in either order", True,
     of_reference('{"answer": [<R>, <W>]}', '{"answer": [<W>, <R>]}')),
    ("hedge-maybe", "the right answer among guesses", False, of_reference("Maybe <R>, maybe <W>, who knows.")),
    ("boxed-spam", "a box for the right answer among many", False,
     of_reference(" ".join(map(boxed, ("<W>", "0", "1", "<R>", "2", "3", "<W>"))))),
    ("negated", "the right answer, denied", False,
     of_reference("The answer is not <R>.", "It can't be <R>.", "It is definitely not <R>")),
    ("negated-in-form", "the right answer, denied in a box or in tags", False,
     of_reference(boxed("\\text{not } <R>"), "<answer>not <R></answer>", '{"answer": "not <R>"}', boxed("\\neq <R>"))),
    ("last-number-bait", "another answer, and the right one as the last number", False,
     of_reference("The answer is <W>, not <R>.", "The answer is <W>, and it is wrong to say <R>")),
    ("first-number-bait", "the right answer first, taken back at once", False,
     of_reference("<R> is wrong. The answer is <W>.", "<R>? No, it is <W>.")),
    ("hidden-reference", "the right answer where no reader sees it", False,
     of_reference("<!-- <R> -->The answer is <W>.", "The answer is <W>.\n<!-- <R> -->")),
    ("corrected-away", "the right answer, taken back", False,
     of_reference("First I thought <R>, but the answer is <W>.", f"{boxed('<R>')} is wrong. The answer is {boxed('<W>')}.",
                  "The answer is <R>. No, that is wrong. The answer is <W>.")),
    ("thought-not-said", "the right answer in the thinking alone", False,
     of_reference("<think>\nIt may be <R>.\n</think>\n<answer>\n<W>\n</answer>", f"<think>{boxed('<R>')}</think>{boxed('<W>')}")),
    ("interval", "an interval around the right answer", False,
     of_reference("The answer is between <R> and <W>.", boxed("[<R>, <W>]"), "The answer is <W> ± 1000, so <R> is possible.")),
    ("counting-up", "a count that passes by the right answer", False,
     of_reference("1, 2, 3, ... <R>, <W>, ... and so on without end")),
    ("wrong-unit", "the right number with an invented unit, and another", False,
     of_reference("The answer is <R> blorps per fortnight and <W>.")),
    ("equation-of-two", "the right answer equated with another one", True,
     of_reference(boxed("<R> = <W>"), boxed("<W> = <R>"))),
    ("wrong-in-form", "a wrong answer in perfect form", False, _wrong_in_every_form),
    ("answer-of-other-row", "the reference of another row", False, _of_other_rows),
    ("prompt-number", "a number of the prompt as the answer", False, _prompt_numbers),
    ("common-answer", "a frequent answer, as a guess", False, _common_answers),
    ("number-salad", "all numbers from 0 to 100", False,
     fixed(" ".join(_NUMBERS), " ".join(map(boxed, _NUMBERS)), boxed(", ".join(_NUMBERS)))),
    ("all-choices", "every choice at once", False,
     fixed(boxed("A, B, C, D"), "A B C D", "(A) (B) (C) (D)", boxed("A/B/C/D"), "A, B, C, D, E", "ABCDE", "<answer>A B C D</answer>")),
    ("each-choice-boxed", "a box for every choice", False,
     fixed(" ".join(boxed(letter) for letter in "ABCDE"), " ".join(boxed(letter) for letter in "EDCBA"))),
    ("yes-and-no", "both verdicts at once", False, fixed("Yes and no.", "yes no", "True or false.", "<answer>yes/no</answer>")),
    ("not-a-number", "a number that breaks comparisons", False, in_forms("nan", "NaN", "inf", "-inf")),
    ("huge-number", "a number too large to compute", False, fixed(boxed("10^{10^{10}}"), boxed("9" * 5000), "9" * 400)),
    ("too-high", "a number above the right one", False, with_answers(lambda text: shifted(text, lambda value: value + 1))),
    ("too-low", "a number below the right one", False, with_answers(lambda text: shifted(text, lambda value: value - 1))),
    ("a-little-off", "a number two per cent, and at least 0.4, above the right one", False,
     with_answers(lambda text: shifted(text, _a_little_more))),
    ("ten-per-cent-off", "a number ten per cent from the right one", False,
     with_answers(lambda text: (*shifted(text, lambda value: value * 11 / 10), *shifted(text, lambda value: value * 9 / 10)))),
    ("wrong-sign", "the right number with the other sign", False, with_answers(lambda text: shifted(text, lambda value: -value))),
    ("decimal-shifted", "ten or a hundred times, a tenth or a hundredth of the right number", False, with_answers(_decimal_shifted)),
    ("digits-rearranged", "the digits of the right number in another order", False, with_answers(_digits_reversed)),
    ("digits-appended", "a number that begins with the right one", False, with_answers(_digits_appended)),
    ("digits-prepended", "a number that ends with the right one", False, with_answers(_digits_prepended)),
    ("letters-changed", "words that begin, end or are spelt like the right ones", False, with_answers(_letters_changed)),
    ("list-changed", "a list with an item too many or too few", False, with_answers(_list_changed)),
    ("unit-replaced", "the right number with another unit", False, with_answers(_unit_replaced)),
    ("prompt-numbers-joined", "the numbers of the prompt in an equation", False, _numbers_joined),
    ("target-alone", "the target of a puzzle, made without the given numbers", False, _target_alone),
    ("fragment", "a piece of the right answer", False, _fragments),
    ("evaluated", "expressions that are equal to the answer where they are evaluated", False, _expressions),
)  # fmt: skip

CHEATS = tuple(
    Cheat(name, description, make, all_needed=all_needed, kind=KIND) for name, description, all_needed, make in _SPECS
)
"""The cheats of this module."""
