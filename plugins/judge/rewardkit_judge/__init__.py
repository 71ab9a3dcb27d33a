"""Rewards from a language model as judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from rewardkit_judge.rewards import Pairwise, Principles, Reference, Rubric

__all__ = ["Pairwise", "Principles", "Reference", "Rubric"]
