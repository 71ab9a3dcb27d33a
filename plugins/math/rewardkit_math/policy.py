"""What counts as the same answer, where mathematics leaves it to convention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rewardkit_math.extraction import SOURCES


@dataclass(frozen=True, slots=True)
class Policy:
    """The conventions of a comparison. The defaults are those of answer checking in mathematical data sets."""

    extraction: tuple[str, ...] = SOURCES
    """Where an answer may stand in a prediction, most trusted first; leave out what must not count (("boxed",) wants a box)."""

    percent: Literal["either", "fraction", "number"] = "either"
    """50% equals 0.5 and 50 ("either"), only 0.5 ("fraction"), or only 50 ("number"). Two percentages compare as they are."""

    tolerance: float = 1e-6
    """How far a decimal may lie from an exact value: relative, and absolute above 1. Two decimals of the same number of places, and
    two exact values, must be equal. Besides this, a decimal of six or more digits equals what it is a correct rounding of."""

    list_order: bool = False
    """Whether the order of a bare list (`1, 2, 3`) counts. That of tuples always does, that of sets never."""

    units: Literal["ignore", "required"] = "ignore"
    """ "ignore": a unit may be missing on one side; two known units must measure the same, and are converted. "required": a unit
    in the reference must be in the prediction."""

    set_relation: bool = True
    """Whether `-2 ≤ x ≤ 7` answers `[-2, 7]` and `x ∈ [-2, 7]`. The other way round it always does."""

    form: Literal["any", "simplified"] = "any"
    """ "simplified": a numeric prediction must be in lowest terms and computed out: 1/2, not 2/4 or 1/4 + 1/4."""

    decimal_places: int | None = None
    """How many digits after the decimal point a prediction must have; None: any."""

    symbolic: bool = True
    """Whether what the fast tiers leave open goes to a symbolic algebra system in a worker process."""

    deadline_s: float = 2.0
    """Seconds of CPU time that the worker process of the symbolic tier may use for one comparison. Its start does not count."""

    max_steps: int = 20_000
    """Steps of the tiers in this process for one comparison; a step takes one to ten microseconds."""

    memory_bytes: int = field(default=1 << 30)
    """Address space of the worker process beyond what it needs to start."""
