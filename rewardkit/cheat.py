"""Defines a cheat: a way to write completions that a sound reward must not accept. ``rewardkit audit`` tries all of them.

This is the contract for plugins; it needs the standard library alone. A plugin offers cheats with the hook ``register_cheats``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CheatInput:
    """The parts of a row that a cheat may use."""

    prompt: str
    """The text of the prompt."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of the row."""
    references: tuple[str, ...] = ()
    """Short texts of the row that may be its reference answer."""
    right: str | None = None
    """A completion of the row with a high reward, if there is one."""
    wrong: str | None = None
    """A completion of the row with a low reward, if there is one."""
    others: tuple[str, ...] = ()
    """Completions of other rows with a high reward."""
    other_references: tuple[str, ...] = ()
    """References of other rows, none of which is a reference of this one."""
    long_references: tuple[str, ...] = ()
    """Long texts of the row that may be its reference, such as a summary."""
    lengths: tuple[int, ...] = ()
    """Lengths in characters at which the reward changes, as its parameters tell."""


@dataclass(frozen=True, slots=True)
class Cheat:
    """A way to write completions that are wrong, whatever they look like."""

    name: str
    """The name in reports, such as ``hedge-or``."""
    description: str
    """The completions, in a few words."""
    make: Callable[[CheatInput], Iterable[str]]
    """Returns completions for a row; none where the cheat does not apply."""
    all_needed: bool = False
    """True if the cheat succeeds on a row only if each of its completions is accepted. A hedge is an example: "4 or 5" and "5 or 4". A
    reward that accepts only one of them reads the answer at one place, and a policy that hedges gains nothing."""
    as_group: bool = False
    """True if the completions of a row form a group of their own, for rewards that compare the rollouts of a group. Their mean
    reward counts. Such a cheat is left out where the reward compares no rollouts."""
    kind: str = "plugin"
    """The heading in reports."""
