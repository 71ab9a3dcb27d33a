"""How much each part of a response weighs in supervised fine-tuning: by patterns, and by functions of plugins."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.config.validate import did_you_mean
from rewardkit.errors import ConfigError, DataError
from rewardkit.train.config import SftConfig
from rewardkit.train.rows import Row
from rewardkit.train.stages import TrainFile
from rewardkit.types import SpanWeights

Span = tuple[int, int, float]
"""Begin and end in a text, in characters, and the weight of what is between them."""


@dataclass(frozen=True, slots=True)
class Weigher:
    """One entry of ``loss.weights``."""

    name: str
    """For messages."""
    function: SpanWeights

    def spans(self, row: Row, text: str) -> list[Span]:
        """Spans of a response. Raises DataError where the function fails or gives what is no span."""
        try:
            found = [(begin, end, float(weight)) for begin, end, weight in self.function(row.data, text)]
        # The boundary: a plugin's function may raise anything.
        except Exception as error:
            raise DataError(f"{row.place}: {self.name} raised {type(error).__name__}: {error}") from error
        for begin, end, weight in found:
            if not (0 <= begin <= end <= len(text) and 0 <= weight < math.inf):
                raise DataError(
                    f"{row.place}: {self.name} gave {(begin, end, weight)}; a span is (begin, end, weight) within the "
                    f"{len(text)} characters of the response, and a weight is finite and not negative"
                )
        return found


def weighers(file: TrainFile) -> list[Weigher]:
    """What the configuration of an SFT run weighs tokens with. Raises ConfigError where no plugin offers a function."""
    config = file.config
    assert isinstance(config, SftConfig)  # noqa: S101 - for the type checker
    offered = _offered(file.registry.hook.register_span_weights())
    result = []
    for index, entry in enumerate(config.loss.weights):
        if entry.pattern is not None and entry.weight is not None:
            result.append(by_pattern(entry.pattern, entry.weight))
        elif entry.use is not None:
            functions = offered.get(entry.use, [])
            if len(functions) != 1:
                hint = did_you_mean(entry.use, offered) or f"; there are {', '.join(sorted(offered)) or 'none'}"
                problem = "two plugins offer" if functions else "no plugin offers"
                raise ConfigError(
                    (file.where("loss", "weights", index, "use"), f"{problem} weights named {entry.use!r}{hint}")
                )
            result.append(Weigher(entry.use, functions[0]))
    return result


def by_pattern(pattern: str, weight: float) -> Weigher:
    """The same weight for all that a regular expression matches."""
    compiled = re.compile(pattern)

    def spans(_row: Mapping[str, Any], text: str) -> Iterable[Span]:
        return [(match.start(), match.end(), weight) for match in compiled.finditer(text)]

    return Weigher(f"the pattern {pattern!r}", spans)


def _offered(plugins: Iterable[Mapping[str, SpanWeights]]) -> dict[str, list[SpanWeights]]:
    result: dict[str, list[SpanWeights]] = {}
    for functions in plugins:
        for name, function in functions.items():
            result.setdefault(name, []).append(function)
    return result


def token_weights(text_ends: Sequence[int], spans: Iterable[Span]) -> list[float]:
    """The weight of each token: that of the last span which it overlaps, else 1.

    Args:
        text_ends: Where each token's text ends in the response's, in characters.
        spans: Of that text.
    """
    weights = [1.0] * len(text_ends)
    for begin, end, weight in spans:
        for index, (first, last) in enumerate(zip([0, *text_ends], text_ends, strict=False)):
            if first < end and last > begin:
                weights[index] = weight
    return weights
