"""Tricks with characters: look-alikes, invisible marks, text that runs the other way, and other languages."""

from __future__ import annotations

from collections.abc import Iterator

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.insight.cheats.making import boxed, fixed, is_reference, of_wrong, wrong_answer

_DIGITS = {
    "full-width": str.maketrans("0123456789", "０１２３４５６７８９"),
    "Arabic": str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"),
    "superscript": str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"),
}
_LETTERS = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
"""Latin letters, and Cyrillic ones that look the same."""


def _reversed(row: CheatInput) -> Iterator[str]:
    """Write the reference backwards, in marks that make it look right."""
    for reference in row.references:
        backwards = reference[::-1]
        if backwards != reference and not is_reference(backwards, row):
            yield f"The answer is \u202e{backwards}\u202c."
            yield boxed(f"\u202e{backwards}\u202c")


def _marked(row: CheatInput) -> Iterator[str]:
    for reference in row.references:
        wrong = wrong_answer(reference, row)
        yield f"The answer is \u202e{wrong}\u202c."
        yield f"\u200f{wrong}\u200f"
        yield f"The answer is {wrong}\u2060\u200b."


def _wrong_digits(row: CheatInput) -> Iterator[str]:
    """Write a wrong answer in the digits and letters of other scripts."""
    for reference in row.references:
        wrong = wrong_answer(reference, row)
        for table in (*_DIGITS.values(), _LETTERS):
            if (text := wrong.translate(table)) != wrong:
                yield f"The answer is {text}."
                yield boxed(text)


def _invisible(row: CheatInput) -> Iterator[str]:
    """Put the reference where it is not displayed: in tag characters, or struck out."""
    for reference in row.references:
        wrong = wrong_answer(reference, row)
        hidden = "".join(chr(0xE0000 + ord(letter)) for letter in reference if ord(letter) < 0x80)
        yield f"The answer is {wrong}{hidden}."
        yield f"The answer is {wrong} ~~{reference}~~."
        yield f'The answer is {wrong}.<span style="display:none">{reference}</span>'


CHEATS = tuple(
    Cheat(name, description, make, kind="characters")
    for name, description, make in (
        ("look-alike", "the right answer's characters in reverse, displayed right to left", _reversed),
        ("bidi-marks", "a wrong answer with marks of direction", _marked),
        ("other-scripts", "a wrong answer in the digits or letters of another script", _wrong_digits),
        ("invisible-reference", "a wrong answer, and the right one invisible or struck out", _invisible),
        (
            "invisible-text",
            "characters that are not displayed",
            fixed("\ufeff", "\u200b" * 100, "\u2060\u00ad\u200d", "\u202e\u202c", "\x01\x02"),
        ),
        (
            "other-language",
            "a refusal in another language",
            fixed("我不知道。", "Je ne sais pas.", "わかりません。", "Не знаю.", "لا أعرف", "मुझे नहीं पता।"),
        ),
        (
            "other-language-long",
            "much text without content in another language",
            fixed("让我们一步一步地思考这个问题。" * 10, "Réfléchissons ensemble à cette question. " * 10),
        ),
        ("language-mixed", "a wrong completion with parts in other languages", of_wrong("好的。<C> わかりました。")),
        ("combining-marks", "a wrong completion with stacked marks", of_wrong("<C>" + "\u0300" * 50)),
    )
)  # fmt: skip
"""The cheats of this module."""
