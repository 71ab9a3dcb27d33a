"""Rewards from a language model as judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rewardkit import hookimpl
from rewardkit_judge.rewards import Pairwise, Principles, Reference, Rubric

if TYPE_CHECKING:
    import click

__all__ = ["Pairwise", "Principles", "Reference", "Rubric", "register_commands"]


@hookimpl
def register_commands() -> Iterable[click.Command]:
    """Register ``rewardkit judge``."""
    from rewardkit_judge.commands import group

    return [group]
