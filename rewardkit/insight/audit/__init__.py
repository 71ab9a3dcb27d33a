"""Attacks a reward with cheats before a policy does: the rows, the attack, the search for further cheats, and the page."""

from __future__ import annotations

from rewardkit.insight.audit.attack import Attack, ComponentFinding, Finding, attack, audit
from rewardkit.insight.audit.rows import HonestRow, Levels, honest_rows, levels_of, references_of

__all__ = [
    "Attack",
    "ComponentFinding",
    "Finding",
    "HonestRow",
    "Levels",
    "attack",
    "audit",
    "honest_rows",
    "levels_of",
    "references_of",
]
