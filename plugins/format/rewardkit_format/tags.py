"""``format.tags``: sections such as ``<think>…</think><answer>…</answer>``, in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen

from rewardkit import Rollout, Score, reward
from rewardkit_format.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)


def check_tag_name(name: str) -> None:
    """Check that ``name`` can be the name of a tag.

    Raises:
        ValueError: It can't.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a tag name: write it without brackets, such as think or final_answer")


@reward("format.tags", example="format: {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}")
class Tags:
    """1 if the completion has all sections in tags, such as ``<think>…</think><answer>…</answer>``, once and in order, else 0.

    With ``partial``, the value is the share of the format that is correct. Tags are case-sensitive, and a tag with
    attributes or spaces inside its brackets is plain text. A nested tag is wrong, and so is a tag that is only mentioned
    inside a section, because it could mislead a grader that extracts the answer by its tags.

    Args:
        tags: The names of the tags, without brackets, in the order of their sections.
        anchored: Allow only white space before, between and after the sections.
        non_empty: Require more than white space in every section.
        repeat: Allow sections more than once and in any order after their first occurrence, which must be in order.
        prefilled: The prompt ends with the first opening tag, as in chat templates of reasoning models; the completion
            starts inside that section and must not open it again.
        partial: Give part of the value for part of the format: each tag that is opened gets half of its share, and the
            other half if it is closed, not empty, and follows the one before. With ``anchored``, clean surroundings are
            one more share, given only if every section is correct.
    """

    def __init__(
        self,
        *,
        tags: Annotated[list[str], MinLen(1)],
        anchored: bool = False,
        non_empty: bool = True,
        repeat: bool = False,
        prefilled: bool = False,
        partial: bool = False,
    ) -> None:
        if not tags:
            raise ValueError("tags is empty: give at least one, such as [think, answer]")
        for tag in tags:
            check_tag_name(tag)
        if repeated := next((tag for tag in tags if tags.count(tag) > 1), None):
            raise ValueError(f"tags names {repeated!r} twice; to allow its section more than once, set repeat: true")
        self._tags = [(f"<{tag}>", f"</{tag}>") for tag in tags]
        self._right = verdict(1.0, "the tags are correct", "...".join(self._tags[-1]))
        self._anchored = anchored
        self._non_empty = non_empty
        self._prefix = self._tags[0][0] if prefilled else ""
        self._partial = partial
        names = "|".join(re.escape(tag) for tag in tags)
        self._marks = re.compile(f"</?(?:{names})>")
        self._faults = self._faults_repeated if repeat else self._faults_once
        # One pass in C for what a trained model nearly always writes. All quantifiers are possessive, so it never backtracks.
        filler = rf"[^<]*+(?:<(?!/?(?:{names})>)[^<]*+)*+"
        between = r"\s*+" if anchored else filler
        sections = [
            re.escape(opening) + (rf"\s*+(?!{re.escape(closing)})" if non_empty else "") + filler + re.escape(closing)
            for opening, closing in self._tags
        ]
        self._is_right = re.compile(between + between.join(sections) + between).fullmatch

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        right, is_right, prefix = self._right, self._is_right, self._prefix
        results = []
        for rollout in rollouts:
            text = rollout.completion_text
            if prefix:
                text = prefix + text
            results.append(right if is_right(text) is not None else self._diagnose(text))
        return results

    def _diagnose(self, text: str) -> Score:
        opened, complete, fault = self._faults(text)
        if not fault:  # the fast check is stricter than a format with repeated sections
            return self._right
        if not self._partial:
            return verdict(0.0, fault)
        return verdict((opened + complete) / (2 * len(self._tags) + 2 * self._anchored), fault)

    def _faults_once(self, text: str) -> tuple[int, int, str]:
        """The number of tags that are opened, the number that are also correct, and the first fault."""
        opened = complete = end_of_previous = 0
        first_fault = ""
        outside = []
        for opening, closing in self._tags:
            openings, closings = text.count(opening), text.count(closing)
            opened += openings == 1
            start, end = text.find(opening), text.find(closing)
            if openings != 1:
                fault = f"{opening} occurs more than once" if openings else f"{opening} is missing"
            elif closings != 1:
                fault = f"{closing} occurs more than once" if closings else f"{closing} is missing"
            elif end < start:
                fault = f"{closing} comes before {opening}"
            elif start < end_of_previous:
                fault = f"{opening} comes too early: the order is {self._order}"
            elif self._non_empty and _is_blank(text, start + len(opening), end):
                fault = f"{opening} is empty"
            else:
                complete += 1
                outside.append((end_of_previous, start))
                end_of_previous = end + len(closing)
                continue
            first_fault = first_fault or fault
        outside.append((end_of_previous, len(text)))
        if not first_fault and self._anchored and not all(_is_blank(text, start, end) for start, end in outside):
            first_fault = "there is text outside the tags"
        return opened, complete, first_fault

    def _faults_repeated(self, text: str) -> tuple[int, int, str]:
        """Return the faults as `_faults_once` does, but allow repeated sections; a tag is correct if all of its sections are."""
        seen: list[str] = []
        wrong: dict[str, str] = {}
        closing_of = dict(self._tags)
        is_open, end_of_previous, start, clean = "", 0, 0, True
        for mark in self._marks.finditer(text):
            tag = mark[0]
            if tag in closing_of:
                if is_open:
                    wrong.setdefault(is_open, f"{tag} is inside {is_open}")
                else:
                    clean = clean and _is_blank(text, end_of_previous, mark.start())
                if tag not in seen:
                    seen.append(tag)
                is_open, start = tag, mark.end()
                continue
            opening = "<" + tag[2:]
            if is_open != opening:
                wrong.setdefault(opening, f"{tag} closes no open tag")
            elif self._non_empty and _is_blank(text, start, mark.start()):
                wrong.setdefault(opening, f"{opening} is empty")
            is_open, end_of_previous = "", mark.end()
        if is_open:
            wrong.setdefault(is_open, f"{closing_of[is_open]} is missing")
        clean = clean and _is_blank(text, end_of_previous, len(text))
        wanted = [opening for opening, _ in self._tags]
        for place, opening in enumerate(wanted):
            if opening not in seen:
                wrong[opening] = f"{opening} is missing"
            elif any(later in seen and seen.index(later) < seen.index(opening) for later in wanted[place + 1 :]):
                wrong.setdefault(opening, f"{opening} comes too late: the order is {self._order}")
        fault = next((wrong[opening] for opening in wanted if opening in wrong), "")
        if not fault and self._anchored and not clean:
            fault = "there is text outside the tags"
        return len(seen), len(wanted) - len(wrong), fault

    @property
    def _order(self) -> str:
        return ", ".join(opening for opening, _ in self._tags)


_NOT_BLANK = re.compile(r"\S")


def _is_blank(text: str, start: int, end: int) -> bool:
    return _NOT_BLANK.search(text, start, end) is None
