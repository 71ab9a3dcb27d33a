"""Which token sequences go through the model together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def by_length(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Cut sequences into batches of at most ``most_tokens``, padding included; those of like length go together.

    Args:
        lengths: Tokens of each sequence.
        most_tokens: A longer sequence is a batch of its own.

    Returns:
        Indices of each batch. The longest sequences come first, so that memory runs out at once or never.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
