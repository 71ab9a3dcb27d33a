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
    """Raises ValueError unless ``name`` can stand between angle brackets."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no tag name: write it without brackets, such as think or final_answer")


@reward("format.tags", example="format: {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}")
class Tags:
    """Sections in tags, such as ``<think>…</think><answer>…</answer>``: all there, in order, once each.

    Gives 1 where the form is right, else 0; with ``partial``, a share of the form that is right. Tags are compared as
    they are written: case counts, and a tag with attributes or spaces inside its brackets is plain text.

    Nesting counts as wrong, and so does a tag that is only mentioned inside a section: a checker that takes the answer
    out by its tags could be led astray by it.

    Args:
        tags: Names of the tags, without brackets, in the order in which their sections must stand.
        anchored: Allow nothing but white space before, between and after the sections.
        non_empty: Ask for more than white space in every section.
        repeat: Let sections come more than once and in any order after their first appearance, which must be in order.
        prefilled: The prompt ends with the first opening tag, as chat templates of reasoning models do; the completion
            starts inside that section and must not open it again.
        partial: Give part of the value for part of the form: each tag that is opened gets half of its share, the other
            half if it is closed, not empty, and follows the one before. With ``anchored``, clean surroundings are one
            more share, given only where every section is right.
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
            raise ValueError("tags is empty: name at least one, such as [think, answer]")
        for tag in tags:
            check_tag_name(tag)
        if repeated := next((tag for tag in tags if tags.count(tag) > 1), None):
            raise ValueError(f"tags names {repeated!r} twice; to let its section come more than once, set repeat: true")
        self._tags = [(f"<{tag}>", f"</{tag}>") for tag in tags]
        self._anchored = anchored
        self._non_empty = non_empty
        self._prefix = self._tags[0][0] if prefilled else ""
        self._partial = partial
        names = "|".join(re.escape(tag) for tag in tags)
        self._marks = re.compile(f"</?(?:{names})>")
        self._faults = self._faults_repeated if repeat else self._faults_once
        # One pass in C for what a trained model nearly always writes. Possessive throughout, so it never backtracks.
        filler = rf"[^<]*+(?:<(?!/?(?:{names})>)[^<]*+)*+"
        between = r"\s*+" if anchored else filler
        sections = [
            re.escape(opening) + (rf"\s*+(?!{re.escape(closing)})" if non_empty else "") + filler + re.escape(closing)
            for opening, closing in self._tags
        ]
        self._is_right = re.compile(between + between.join(sections) + between).fullmatch

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        right, is_right, prefix = verdict(1.0, "the tags are right"), self._is_right, self._prefix
        results = []
        for rollout in rollouts:
            text = rollout.completion_text
            if prefix:
                text = prefix + text
            results.append(right if is_right(text) is not None else self._diagnose(text))
        return results

    def _diagnose(self, text: str) -> Score:
        opened, complete, fault = self._faults(text)
        if not fault:  # the quick look is stricter than a form with repeated sections
            return verdict(1.0, "the tags are right")
        if not self._partial:
            return verdict(0.0, fault)
        return verdict((opened + complete) / (2 * len(self._tags) + 2 * self._anchored), fault)

    def _faults_once(self, text: str) -> tuple[int, int, str]:
        """How many tags are opened, how many are right besides, and the first fault."""
        opened = complete = end_of_previous = 0
        first_fault = ""
        outside = []
        for opening, closing in self._tags:
            openings, closings = text.count(opening), text.count(closing)
            opened += openings == 1
            start, end = text.find(opening), text.find(closing)
            if openings != 1:
                fault = f"{opening} stands more than once" if openings else f"{opening} is missing"
            elif closings != 1:
                fault = f"{closing} stands more than once" if closings else f"{closing} is missing"
            elif end < start:
                fault = f"{closing} stands before {opening}"
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
            first_fault = "there is text outside of the tags"
        return opened, complete, first_fault

    def _faults_repeated(self, text: str) -> tuple[int, int, str]:
        """The same where sections may come again; a tag is right if all of its sections are."""
        seen: list[str] = []
        wrong: dict[str, str] = {}
        closing_of = dict(self._tags)
        is_open, end_of_previous, start, clean = "", 0, 0, True
        for mark in self._marks.finditer(text):
            tag = mark[0]
            if tag in closing_of:
                if is_open:
                    wrong.setdefault(is_open, f"{tag} stands inside {is_open}")
                else:
                    clean = clean and _is_blank(text, end_of_previous, mark.start())
                if tag not in seen:
                    seen.append(tag)
                is_open, start = tag, mark.end()
                continue
            opening = "<" + tag[2:]
            if is_open != opening:
                wrong.setdefault(opening, f"{tag} closes nothing")
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
            fault = "there is text outside of the tags"
        return len(seen), len(wanted) - len(wrong), fault

    @property
    def _order(self) -> str:
        return ", ".join(opening for opening, _ in self._tags)


_NOT_BLANK = re.compile(r"\S")


def _is_blank(text: str, start: int, end: int) -> bool:
    return _NOT_BLANK.search(text, start, end) is None
