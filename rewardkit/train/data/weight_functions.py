"""The functions that weigh tokens, as configured in ``loss.weights``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rewardkit.config.validate import did_you_mean
from rewardkit.errors import ConfigError
from rewardkit.train.config import SftConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.token_weights import Span, SpanWeighter
from rewardkit.types import SpanWeights


def span_weighters(file: TrainFile) -> list[SpanWeighter]:
    """Return the weighters of an SFT configuration. Raises ConfigError if no plugin offers a function that it names."""
    config = file.config_as(SftConfig)
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
            result.append(SpanWeighter(entry.use, functions[0]))
    return result


def by_pattern(pattern: str, weight: float) -> SpanWeighter:
    """Return a weighter that gives the same weight to every match of a regular expression."""
    compiled = re.compile(pattern)

    def spans(_row: Mapping[str, Any], text: str) -> Iterable[Span]:
        return [(match.start(), match.end(), weight) for match in compiled.finditer(text)]

    return SpanWeighter(f"the pattern {pattern!r}", spans)


def _offered(plugins: Iterable[Mapping[str, SpanWeights]]) -> dict[str, list[SpanWeights]]:
    result: dict[str, list[SpanWeights]] = {}
    for functions in plugins:
        for name, function in functions.items():
            result.setdefault(name, []).append(function)
    return result
