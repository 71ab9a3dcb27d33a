"""``format.language``: the script that a completion is written in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import regex
from annotated_types import Gt, Le, MinLen

from rewardkit import Rollout, Score, reward
from rewardkit_format.tags import check_tag_name
from rewardkit_format.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NOT_A_LETTER = regex.compile(r"[^\p{L}]+|[\p{Script=Common}\p{Script=Inherited}]+")
_ASCII_NOT_A_LETTER = re.compile(r"[^A-Za-z]+")

_NO_SCRIPTS = frozenset({"common", "zyyy", "inherited", "zinh", "qaai", "unknown", "zzzz"})
"""Unicode's names for characters that belong to every script or to none."""

MAX_CHARS = 1_000_000
"""Only this much of the beginning of a text is read, so that memory stays bounded."""

# Markup whose letters are not prose: code blocks and spans, formulas, LaTeX commands, tags.
_MARKUP = re.compile(r"```|`|\$\$|\$|\\[(\[]|\\[A-Za-z]+|</?[A-Za-z][\w.:-]*>", re.ASCII)
_CLOSING = {"```": "```", "`": "`", "$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_WITHIN_A_LINE = frozenset({"`", "$"})


@reward(
    "format.language",
    example="script: {use: format.language, with: {scripts: [latin], min_share: 0.95}, weight: 0.2}",
)
class Language:
    """The share of letters in the given scripts (0 to 1): a reward against mixing languages, as in DeepSeek-R1.

    With ``min_share``, 1 if the share is reached, else 0. Digits, punctuation and symbols belong to no script and do not
    count; a text without letters gets 1. Languages with the same script, such as English and French, are not told apart.

    Args:
        scripts: Unicode scripts, such as latin, han, cyrillic, arabic, devanagari, hangul; Japanese is han, hiragana
            and katakana.
        min_share: The share from which on the value is 1; below it the value is 0.
        tag: Read only the last section in this tag, such as think; if there is no such section the value is 0.
        ignore_markup: Leave out code, formulas, LaTeX commands and tags, whose letters are Latin in every language.
    """

    def __init__(
        self,
        *,
        scripts: Annotated[list[str], MinLen(1)],
        min_share: Annotated[float, Gt(0), Le(1)] | None = None,
        tag: str | None = None,
        ignore_markup: bool = True,
    ) -> None:
        if not scripts:
            raise ValueError("scripts is empty: name at least one, such as latin")
        if min_share is not None and not 0 < min_share <= 1:
            raise ValueError(f"min_share must be above 0 and at most 1, not {min_share}")
        for script in scripts:
            _check_script(script)
        if tag is not None:
            check_tag_name(tag)
        self._foreign = regex.compile("[" + "".join(rf"\p{{Script={script}}}" for script in scripts) + "]+")
        self._names = " or ".join(scripts)
        self._ascii_letters_fit = self._foreign.search("a") is not None
        self._min_share, self._ignore_markup = min_share, ignore_markup
        self._marks = (f"<{tag}>", f"</{tag}>") if tag else None

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        return [self._score_one(rollout.completion_text) for rollout in rollouts]

    def _score_one(self, text: str) -> Score:
        if self._marks:
            opening, closing = self._marks
            end = text.rfind(closing)
            start = text.rfind(opening, 0, max(end, 0))
            if start < 0:
                return verdict(0.0, f"there is no section {opening}…{closing}")
            text = text[start + len(opening) : end]
        text = text[:MAX_CHARS]
        if self._ascii_letters_fit and text.isascii():  # leaving markup out makes no difference
            return verdict(1.0, f"100% of letters are {self._names}")
        if self._ignore_markup:
            text = "".join(prose(text))
        letters = (_ASCII_NOT_A_LETTER if text.isascii() else _NOT_A_LETTER).sub("", text)
        if not letters:
            return verdict(1.0, "there are no letters")
        share = 1 - len(self._foreign.sub("", letters)) / len(letters)
        value = share if self._min_share is None else float(share >= self._min_share)
        return verdict(value, f"{_percent(share)} of letters are {self._names}")


def _percent(share: float) -> str:
    """The share in percent, rounded down, so that only a share of 1 is 100%."""
    return f"{int(share * 1000) / 10:g}%"


def _check_script(script: str) -> None:
    known = bool(regex.fullmatch(r"[A-Za-z_]+", script)) and script.lower() not in _NO_SCRIPTS
    if known:
        try:
            regex.compile(rf"\p{{Script={script}}}")
        except regex.error:
            known = False
    if not known:
        raise ValueError(
            f"{script!r} is not a Unicode script; use names such as latin, cyrillic, greek, arabic, hebrew, devanagari, "
            "thai, han, hiragana, katakana, hangul"
        )


def prose(text: str) -> Iterator[str]:
    """Yield the parts of ``text`` that are not code, formulas, LaTeX commands or tags.

    Markup that is opened and never closed is prose. Takes linear time: a closing mark is searched only where one is known
    to follow.
    """
    last_of = {opening: text.rfind(closing) for opening, closing in _CLOSING.items()}
    kept_to = at = 0
    while mark := _MARKUP.search(text, at):
        opening, at = mark[0], mark.end()
        if closing := _CLOSING.get(opening):
            if last_of[opening] < at:
                continue
            end = text.find(closing, at)
            if opening in _WITHIN_A_LINE and text.find("\n", at, end) >= 0:
                continue
            if opening == "$" and not _is_formula(text, at, end):
                continue
            at = end + len(closing)
        yield text[kept_to : mark.start()]
        yield " "
        kept_to = at
    yield text[kept_to:]


def _is_formula(text: str, start: int, end: int) -> bool:
    """Return True if the dollar signs around ``text[start:end]`` mark a formula, not prices: https://pandoc.org/MANUAL.html#math."""
    return start < end and not (text[start].isspace() or text[end - 1].isspace() or text[end + 1 : end + 2].isdigit())
