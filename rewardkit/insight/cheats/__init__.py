"""The stock of cheats, by kind. Each makes completions that do not solve the task, so a sound reward accepts none of them."""

from __future__ import annotations

from rewardkit.cheat import Cheat
from rewardkit.insight.cheats import answers, borrowed, characters, empty, judges, lengths, parts, programs
from rewardkit.insight.cheats.making import FILLER, boxed, code, fixed, of_reference, other_answer

__all__ = ["CHEATS", "FILLER", "boxed", "code", "fixed", "of_reference", "other_answer"]

CHEATS: tuple[Cheat, ...] = tuple(
    cheat
    for module in (empty, answers, parts, borrowed, lengths, characters, judges, programs)
    for cheat in module.CHEATS
)
"""The built-in cheats. Plugins add theirs with the hook ``register_cheats``."""
