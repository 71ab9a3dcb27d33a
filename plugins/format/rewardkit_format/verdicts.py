"""Scores that many rollouts share. Making one costs more than most judgements here, so equal ones are made once."""

from __future__ import annotations

import functools

from rewardkit import Score


@functools.lru_cache(maxsize=4096)
def verdict(value: float, reason: str) -> Score:
    """A score with a reason out of a small set; the same object for the same arguments."""
    return Score(value, reason)
