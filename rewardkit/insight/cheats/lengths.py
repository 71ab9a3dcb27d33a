"""Completions of chosen lengths, for rewards of length, of repetition, and of steps; and whole groups of completions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.insight.cheats.making import FILLER, WORDS

GROUP = 8
"""The completions of a group."""
_USUAL_LENGTHS = (100, 500, 1000, 2000, 4000)


def of_length(text: str, length: int) -> str:
    """Return a completion of exactly some characters: cut, or padded in front with text without content."""
    if len(text) >= length:
        return text[:length]
    missing = length - len(text)
    return (FILLER * (missing // len(FILLER) + 1))[:missing] + text


def _padded(row: CheatInput) -> Iterator[str]:
    if row.wrong:
        for length in _USUAL_LENGTHS:
            if length > len(row.wrong):
                yield of_length(row.wrong, length)


def _cut(row: CheatInput) -> Iterator[str]:
    if row.wrong:
        words = row.wrong.split()
        for piece in (words[: len(words) // 2], words[:1], words[-1:]):
            text = " ".join(piece)
            if not any(reference in text for reference in row.references):
                yield text


def _at_kinks(row: CheatInput) -> Iterator[str]:
    """Give a wrong completion each length at which the reward changes, one less and one more."""
    for length in row.lengths:
        for near in (length - 1, length, length + 1):
            if 0 < near <= 40_000:  # longer completions make the audit slow, and no policy writes them
                yield of_length(row.wrong or "", near)


def _as_long_as_right(row: CheatInput) -> Iterator[str]:
    if row.right and row.wrong:
        yield of_length(row.wrong, len(row.right))


def _new_lines(row: CheatInput) -> Iterator[str]:
    if row.wrong:
        yield re.sub(r"\s+", "\n\n", row.wrong)
        yield f"{row.wrong}{chr(10) * 200}"
        yield f"{' ' * 2000}{row.wrong}"


def _tiny_steps(row: CheatInput) -> Iterator[str]:
    """Give a process reward many steps, none of which is wrong and none of which does anything."""
    end = row.wrong or ""
    yield "\n\n".join(f"Step {number}: Let us continue." for number in range(1, 51)) + f"\n\n{end}"
    yield "Step 1.\n\n" * 50 + end
    yield "<step>Let us think.</step>\n" * 50 + end


def _true_steps(row: CheatInput) -> Iterator[str]:
    """Give a process reward many steps that are true and have nothing to do with the task."""
    yield "\n\n".join(f"{number} + 1 = {number + 1}" for number in range(200, 240)) + f"\n\n{row.wrong or ''}"


def _one_step(row: CheatInput) -> Iterator[str]:
    if row.wrong:
        yield re.sub(r"\s+", " ", row.wrong)


def _identical(row: CheatInput) -> Iterator[str]:
    for _ in range(GROUP):
        yield row.wrong or "I don't know."


def _one_off(row: CheatInput) -> Iterator[str]:
    """Differ from each other for a reward of diversity, and say nothing."""
    for number in range(GROUP):
        rotated = " ".join(WORDS[number:] + WORDS[:number])
        yield f"{rotated}. {row.wrong or ''}"


def _one_long(row: CheatInput) -> Iterator[str]:
    """Let one long completion shift what the others of the group are compared with."""
    text = row.wrong or "I don't know."
    for number in range(GROUP):
        yield FILLER * 100 + text if number == 0 else text


_SPECS = (
    ("wrong-padded", "a wrong completion, padded", False, _padded),
    ("wrong-cut", "a wrong completion, cut", False, _cut),
    (
        "at-length-kink",
        "a wrong completion at each length at which the reward's parameters change it",
        False,
        _at_kinks,
    ),
    ("as-long-as-right", "a wrong completion of the length of a right one", False, _as_long_as_right),
    ("white-space-padded", "a wrong completion, padded with white space and empty lines", False, _new_lines),
    ("wrong-in-steps", "a wrong completion in many tiny steps", False, _tiny_steps),
    ("true-but-idle-steps", "many true steps that have nothing to do with the task", False, _true_steps),
    ("wrong-in-one-step", "a wrong completion without line breaks", False, _one_step),
    ("group-identical", "a group of identical wrong completions", True, _identical),
    ("group-one-off", "a group of wrong completions that differ without reason", True, _one_off),
    ("group-one-long", "a group of wrong completions, one of them very long", True, _one_long),
)
CHEATS = tuple(
    Cheat(name, description, make, as_group=as_group, kind="length and steps")
    for name, description, as_group, make in _SPECS
)
"""The cheats of this module."""
