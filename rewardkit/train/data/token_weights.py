"""Weights of response tokens in supervised fine-tuning, set by patterns and by functions of plugins."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
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


def token_weights(places: Sequence[tuple[int, int]], spans: Iterable[Span]) -> list[float]:
    """Return the weight of each token: that of the last span that it overlaps, or 1.

    The time is linear in the tokens (and, but for a logarithm, in the spans), however many tokens each span covers.

    Args:
        places: The place of each token's text in the response, as (first character, character after the last), in order.
        spans: The weighted spans of the response.
    """
    weights = [1.0] * len(places)
    firsts, lasts = [first for first, _ in places], [last for _, last in places]
    following = list(
        range(len(places) + 1)
    )  # for each token, a token at or behind it up to which all have their weight

    def next_open(token: int) -> int:
        """Return the first token from ``token`` on that has no weight yet."""
        found = token
        while following[found] != found:
            found = following[found]
        while following[token] != found:
            following[token], token = found, following[token]
        return found

    for begin, end, weight in reversed(list(spans)):
        behind = bisect_left(firsts, end)
        token = next_open(min(bisect_right(lasts, begin), behind))
        while token < behind:
            weights[token] = weight
            following[token] = token + 1
            token = next_open(token + 1)
    return weights
