"""Scores that many rollouts share. Creating one costs more than most checks here, so equal scores are created once."""

from __future__ import annotations

import functools

from rewardkit import Score


@functools.lru_cache(maxsize=4096)
def verdict(value: float, reason: str) -> Score:
    """Return a score with one of few reasons; equal arguments give the same object."""
    return Score(value, reason)
