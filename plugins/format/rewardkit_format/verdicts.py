"""Scores that many rollouts share. Creating one costs more than most checks here, so equal scores are created once."""

from __future__ import annotations

import functools

from rewardkit import Score

MAX_EXTRACTED_CHARS = 4_000
"""A longer part of a completion is not kept beside its score."""


def excerpt(text: str) -> str | None:
    """Return a part of a completion as it is kept beside a score: None if it is blank or long."""
    return text if len(text) <= MAX_EXTRACTED_CHARS and not text.isspace() and text else None


@functools.lru_cache(maxsize=4096)
def verdict(value: float, reason: str, extracted: str | None = None) -> Score:
    """Return a score with one of few reasons; equal arguments give the same object.

    Args:
        value: The value.
        reason: The reason.
        extracted: Where in the completion the answer stands, as marks around it (``<answer>...</answer>``): unlike its text, they are the
            same for all rollouts.
    """
    return Score(value, reason, extracted=extracted)
