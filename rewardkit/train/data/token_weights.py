"""Weights of response tokens in supervised fine-tuning, set by patterns and by functions of plugins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rewardkit.errors import DataError
from rewardkit.train.data.rows import Row
from rewardkit.types import SpanWeights

Span = tuple[int, int, float]
"""The first character, the character after the last, and the weight of the text between them."""


@dataclass(frozen=True, slots=True)
class SpanWeighter:
    """One entry of ``loss.weights``."""

    name: str
    """The name in messages."""
    function: SpanWeights

    def spans(self, row: Row, text: str) -> list[Span]:
        """Return the weighted spans of a response. Raises DataError if the function fails or returns something that is not a span."""
        try:
            found = [(begin, end, float(weight)) for begin, end, weight in self.function(row.data, text)]
        # The boundary: a plugin's function may raise anything.
        except Exception as error:
            raise DataError(f"{row.place}: {self.name} raised {type(error).__name__}: {error}") from error
        for begin, end, weight in found:
            if not (0 <= begin <= end <= len(text) and 0 <= weight < math.inf):
                raise DataError(
                    f"{row.place}: {self.name} returned {(begin, end, weight)}; a span is (begin, end, weight) within the "
                    f"{len(text)} characters of the response, and a weight is finite and not negative"
                )
        return found


def token_weights(text_ends: Sequence[int], spans: Iterable[Span]) -> list[float]:
    """Return the weight of each token: that of the last span that it overlaps, or 1.

    Args:
        text_ends: The position in the response, in characters, at which the text of each token ends.
        spans: The weighted spans of the response.
    """
    weights = [1.0] * len(text_ends)
    for begin, end, weight in spans:
        for index, (first, last) in enumerate(zip([0, *text_ends], text_ends, strict=False)):
            if first < end and last > begin:
                weights[index] = weight
    return weights
