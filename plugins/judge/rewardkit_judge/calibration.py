"""Measures a judge against labels: how far it can be trusted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from rewardkit.toolkit import ErrorRates, LabelledRow, Rate, error_rates

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""
BINS = 10
"""Bins of a reliability plot."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float | None
    """None where it is not defined."""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A labelled row with what the judge says of it."""

    number: int
    """From 1."""
    label: bool
    value: float | None
    """From 0 to 1; None where there is no score."""
    length: int
    """Characters of the response."""
    votes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A labelled pair with what the judge says of it in both orders."""

    number: int
    first_is_better: bool
    """The label."""
    forward: float | None
    """The share of votes for the first response, where it is shown first; None without a verdict."""
    backward: float | None
    """The same where it is shown second."""
    lengths: tuple[int, int]
    """Characters of the responses."""
    votes: tuple[tuple[float, ...], ...] = ()
    """The votes of each order."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows with similar values."""

    low: float
    high: float
    mean: float
    """The mean of the judge's values."""
    true: Rate
    """The share of rows labelled true."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measurements of a judge. Pairs are rows whose value is the share of wins of the first response."""

    rows: int
    agreement: Rate
    """Rows on which judge and label agree, of those with a score."""
    kappa: Estimate
    """Cohen's kappa (Cohen 1960): agreement beyond that of chance."""
    errors: ErrorRates
    consistency: Rate
    """Pairs of votes on one question that agree; without votes, no pairs."""
    length: Estimate
    """Correlation of the judge's error (value minus label) with the logarithm of the response's length; of pairs, see ``longer``."""
    bins: tuple[Bin, ...]
    first_shown: Rate | None = None
    """Pairs only: verdicts for the response that is shown first, of those for either. Without position bias it is one half."""
    orders_agree: Rate | None = None
    """Pairs only: pairs whose verdict does not depend on the order."""
    longer: tuple[Rate, Rate] | None = None
    """Pairs only: how often the judge, and the labels, prefer the longer response."""


def calibrate_rows(rows: Sequence[JudgedRow], threshold: float) -> Calibration:
    """Measure a judge of single responses.

    Args:
        rows: The rows.
        threshold: The judge accepts a row if its value exceeds this.
    """
    scored = [row for row in rows if row.value is not None]
    return Calibration(
        rows=len(rows),
        agreement=_agreement(scored, threshold),
        kappa=kappa(_table(scored, threshold)),
        errors=_errors(rows, threshold),
        consistency=consistency((row.votes for row in rows), threshold),
        length=correlation(
            [float(row.value or 0.0) - row.label for row in scored], [math.log1p(row.length) for row in scored]
        ),
        bins=reliability([(float(row.value or 0.0), row.label) for row in scored]),
    )


def calibrate_pairs(pairs: Sequence[JudgedPair]) -> Calibration:
    """Measure a judge of pairs. A row's value is the mean of both orders; one half is a tie, which agrees with no label.

    Args:
        pairs: The pairs.
    """
    rows = [
        JudgedRow(
            pair.number,
            pair.first_is_better,
            None if pair.forward is None or pair.backward is None else (pair.forward + pair.backward) / 2,
            pair.lengths[0],
        )
        for pair in pairs
    ]
    scored = [row for row in rows if row.value is not None]
    decided = [row for row in scored if row.value != 0.5]
    agreeing = sum(_accepts(row, 0.5) == row.label for row in decided)
    firsts, seconds = _shown_first(pairs)
    both = [(pair.forward, pair.backward) for pair in pairs if pair.forward is not None and pair.backward is not None]
    unequal = [
        (_accepts(row, 0.5), row.label, pair.lengths[0] > pair.lengths[1])
        for pair, row in zip(pairs, rows, strict=True)
        if pair.lengths[0] != pair.lengths[1] and row.value is not None and row.value != 0.5
    ]
    longer = [Rate(sum(item[index] == item[2] for item in unequal), len(unequal)) for index in (0, 1)]
    return Calibration(
        rows=len(rows),
        agreement=Rate(agreeing, len(scored)),
        kappa=kappa(_table(decided, 0.5)),
        errors=replace(_errors(decided, 0.5), unscored=Rate(len(rows) - len(scored), len(rows))),
        consistency=consistency((order for pair in pairs for order in pair.votes), 0.5),
        length=Estimate(None, -1.0, 1.0),
        bins=reliability([(float(row.value or 0.0), row.label) for row in scored]),
        first_shown=Rate(firsts, firsts + seconds),
        orders_agree=Rate(sum(abs(forward - backward) < 0.5 for forward, backward in both), len(both)),
        longer=(longer[0], longer[1]),
    )


def kappa(table: tuple[int, int, int, int]) -> Estimate:
    """Return Cohen's kappa of two raters, with a bootstrap interval.

    Args:
        table: Counts of (both true, only the first, only the second, both false).
    """
    total = sum(table)
    if not total:
        return Estimate(None, -1.0, 1.0)
    value = _kappa(np.asarray([table], dtype=float))[0]
    draws = np.random.default_rng(0).multinomial(total, np.asarray(table) / total, RESAMPLES).astype(float)
    found = _kappa(draws)
    found = found[np.isfinite(found)]
    if not math.isfinite(value) or not found.size:
        return Estimate(None, -1.0, 1.0)
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def _kappa(tables: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return kappa of each table; NaN where both raters give one answer only. Shapes: (N, 4) to (N,)."""
    both, first, second, neither = tables.T
    total = tables.sum(1)
    observed = (both + neither) / total
    chance = ((both + first) * (both + second) + (neither + second) * (neither + first)) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def correlation(errors: Sequence[float], lengths: Sequence[float]) -> Estimate:
    """Return Pearson's correlation with a bootstrap interval; None where one of both is constant.

    Args:
        errors: One number per row.
        lengths: Another one.
    """
    if len(errors) < 3:
        return Estimate(None, -1.0, 1.0)
    both = np.asarray([errors, lengths])
    draws = np.random.default_rng(0).integers(0, both.shape[1], (RESAMPLES, both.shape[1]))
    centred = both - both.mean(1, keepdims=True)
    scale = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    if scale < 1e-12:
        return Estimate(None, -1.0, 1.0)
    x, y = both[0][draws], both[1][draws]
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scales = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    found = (x * y).sum(1)[scales > 1e-12] / scales[scales > 1e-12]
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(float((centred[0] * centred[1]).sum() / scale), float(low), float(high))


def consistency(votes: Iterable[Sequence[float]], threshold: float) -> Rate:
    """Return how many pairs of votes on one question are on the same side of a threshold.

    Args:
        votes: The values of the votes on each question.
        threshold: The judge accepts above it.
    """
    agreeing = total = 0
    for each in votes:
        for one, other in itertools.combinations(each, 2):
            total += 1
            agreeing += (one > threshold) == (other > threshold)
    return Rate(agreeing, total)


def reliability(values: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Return the share of rows labelled true by the judge's value, in equally wide bins. Empty bins are left out.

    Args:
        values: Pairs of a value from 0 to 1 and a label.
    """
    found = []
    for index in range(BINS):
        low, high = index / BINS, (index + 1) / BINS
        inside = [(value, label) for value, label in values if min(int(value * BINS), BINS - 1) == index]
        if inside:
            labels = Rate(sum(label for _, label in inside), len(inside))
            found.append(Bin(low, high, fmean(value for value, _ in inside), labels))
    return tuple(found)


def _shown_first(pairs: Sequence[JudgedPair]) -> tuple[int, int]:
    """Return how many votes were for the response that was shown first, and for the one shown second."""
    firsts = seconds = 0
    for pair in pairs:
        for order in pair.votes:
            firsts += sum(vote > 0.5 for vote in order)
            seconds += sum(vote < 0.5 for vote in order)
    return firsts, seconds


def _accepts(row: JudgedRow, threshold: float) -> bool:
    return row.value is not None and row.value > threshold


def _agreement(rows: Sequence[JudgedRow], threshold: float) -> Rate:
    return Rate(sum(_accepts(row, threshold) == row.label for row in rows), len(rows))


def _table(rows: Sequence[JudgedRow], threshold: float) -> tuple[int, int, int, int]:
    cells = [0, 0, 0, 0]
    for row in rows:
        cells[2 * (not _accepts(row, threshold)) + (not row.label)] += 1
    return cells[0], cells[1], cells[2], cells[3]


def _errors(rows: Sequence[JudgedRow], threshold: float) -> ErrorRates:
    return error_rates((LabelledRow(row.number, row.label, row.value, "") for row in rows), threshold)
