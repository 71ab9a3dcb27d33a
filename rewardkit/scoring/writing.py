"""Writes chunks as they are finished, until all are written, too many could not be scored, or the run is interrupted."""

from __future__ import annotations

import logging
import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rewardkit.errors import RewardkitError, TooManyUnscoredError
from rewardkit.interrupts import answering, was_interrupted
from rewardkit.scoring.engines.chunk_scorer import ScoredChunk
from rewardkit.scoring.output import Output
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.summary import Summary

_log = logging.getLogger(__name__)

MIN_ROWS_TO_ABORT = 200
"""A run is not stopped for its share of unscored rows before so many rows."""
MAX_HELD_ROWS = 10_000
"""The most rows that wait in memory for the end of a service's outage."""


class InterruptedRunError(RewardkitError):
    """A run was interrupted; finished rows are kept."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class UnscoredLimit:
    """The share of unscored rows that a run may have."""

    share: float
    who: str
    """Who allows it, in words, such as ``reward.yaml allows``."""
    how: str = ""
    """How it is set, in words."""

    def exceeded(self, unscored: int, rows: int, reasons: Counter[str], kept: str) -> str:
        """Return why too many rows are unscored; empty if they are not too many.

        Args:
            unscored: Unscored rows.
            rows: All rows.
            reasons: Why they are unscored.
            kept: What becomes of the rows that are done, in words.
        """
        if not rows or unscored / rows <= self.share:
            return ""
        told = "".join(f"\n  {times:,} × {reason}" for reason, times in reasons.most_common(5))
        allowed = f"{self.who} {self.share:.0%} {self.how}".rstrip()
        return (
            f"{unscored:,} of {rows:,} rows ({unscored / rows:.0%}) could not be scored, and {allowed}; {kept}. "
            f"Most frequent reasons:{told}"
        )


def write_chunks(
    scored_chunks: Iterator[ScoredChunk],
    output: Output,
    summary: Summary,
    limit: UnscoredLimit,
    asked: Callable[[], bool],
    shown: NoProgress,
    *,
    has_rewards: bool = True,
) -> None:
    """Append chunks as they are scored. However this ends, appended rows are committed.

    Chunks of which no row could be scored because a service is down are held back until a later chunk is scored. A run that ends
    before then does not write them, so that the same command tries them again.

    Args:
        scored_chunks: The chunks in the order of the output.
        output: Where they go.
        summary: Gets the summary of each.
        limit: The share of unscored rows that ends the run.
        asked: Tells whether the run is to end.
        shown: The progress display.
        has_rewards: False if the rows are of another kind than scored ones.

    Raises:
        TooManyUnscoredError: The limit is exceeded; what is finished is kept.
        InterruptedRunError: The run was asked to end; what is finished is kept.
        OutputError: The rows can't be written; what is finished is kept.
    """
    before = summary.rows, summary.unscored
    held: list[ScoredChunk] = []
    try:
        for chunk in scored_chunks:
            held.append(chunk)
            if not _waits_for_service(chunk) or sum(each.summary.rows for each in held) > MAX_HELD_ROWS:
                _append(output, held)
            for name in chunk.summary.tracebacks.keys() - summary.tracebacks.keys():
                _log.info("component %r first failed at %s", name, chunk.summary.tracebacks[name])
            summary.merge(chunk.summary)
            rows = summary.rows - before[0]
            if rows >= MIN_ROWS_TO_ABORT:
                # Only rows of this run count, so that the same command can resume once the cause is fixed.
                kept = f"the {output.now.rows:,} rows done so far are kept; once the cause is fixed, the same command resumes the run"
                if told := limit.exceeded(summary.unscored - before[1], rows, summary.reasons, kept):
                    raise TooManyUnscoredError(told)
            total = summary.series[0]
            mean = total.mean if total.count else (None if has_rewards else math.nan)
            shown.update(chunk.position, summary.rows, mean, summary.unscored)
            if asked():
                break
        if not asked():
            _append(output, held)
    finally:
        close = getattr(scored_chunks, "close", None)
        output.commit()
        if close is not None:
            close()
    if asked():
        raise InterruptedRunError(
            f"interrupted; {output.now.rows:,} rows are done and kept. The same command resumes the run"
        )


def _append(output: Output, held: list[ScoredChunk]) -> None:
    """Append all held chunks to the output."""
    for chunk in held:
        output.append(chunk)
    held.clear()


def _waits_for_service(chunk: ScoredChunk) -> bool:
    """Return whether no row of a chunk could be scored, and only because a service is down."""
    kinds = {kind for counter in chunk.summary.kinds for kind in counter}
    nothing_else = chunk.summary.unscored == chunk.summary.rows and kinds == {"infra"}
    return bool(chunk.summary.rows) and nothing_else and len(chunk.rejected) == chunk.rejected_unscored


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM has come. A second signal interrupts at once."""
    stop = was_interrupted()

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        if stop:
            raise KeyboardInterrupt
        stop = True

    with answering(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: stop
