"""The conventions by which two answers count as the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rewardkit_math.extraction import SOURCES


@dataclass(frozen=True, slots=True)
class Policy:
    """The conventions of a comparison. The defaults are those of answer checking in mathematical data sets."""

    extraction: tuple[str, ...] = SOURCES
    """The places in which the answer of a prediction is searched for, most trusted first; see `SOURCES`. `("boxed",)` requires a box."""

    percent: Literal["either", "fraction", "number"] = "either"
    """50% equals 0.5 and 50 ("either"), only 0.5 ("fraction"), or only 50 ("number"). Two percentages compare as they are."""

    tolerance: float = 1e-6
    """The largest difference between a decimal and an exact value that are equal.

    Up to 1e-6 it is relative below 1 and absolute above; two decimals with equally many places, and two exact values, must be equal;
    and a decimal of six or more digits equals every value of which it is a correct rounding. Above 1e-6 it is relative for every
    number, including integers."""

    list_order: bool = False
    """True if the order of a bare list (`1, 2, 3`) matters. That of tuples always does, that of sets never."""

    units: Literal["ignore", "required"] = "ignore"
    """With "ignore", a unit may be missing on one side; two known units must have the same dimension and are converted. With
    "required", the prediction must have a unit if the reference has one."""

    set_relation: bool = True
    """True if the prediction `-2 ≤ x ≤ 7` equals the references `[-2, 7]` and `x ∈ [-2, 7]`. The reverse always holds."""

    form: Literal["any", "simplified"] = "any"
    """With "simplified", a numeric prediction must be in lowest terms with its arithmetic carried out: 1/2, not 2/4 or 1/4 + 1/4."""

    decimal_places: int | None = None
    """The number of digits after the decimal point that a prediction must have; None accepts any number."""

    symbolic: bool = True
    """True if sympy, in a worker process, decides comparisons that the fast tiers leave open."""

    deadline_s: float = 2.0
    """Seconds of CPU time that the worker process of the symbolic tier may use for one comparison. Its start does not count."""

    max_steps: int = 20_000
    """Steps that the tiers in this process may take for one comparison; a step takes one to ten microseconds."""

    memory_bytes: int = field(default=1 << 30)
    """Address space of the worker process beyond what it needs to start."""
