"""Writes the output of a job: scored rows, rejected rows and the journal, and at the end the finished file with its manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rewardkit.errors import OutputError, RewardkitError, UsageError
from rewardkit.files import sync_folder, write_whole
from rewardkit.scoring.engines.chunk_scorer import ScoredChunk
from rewardkit.scoring.formats.dataset_folder import put_in_place
from rewardkit.scoring.formats.format import Part, open_part
from rewardkit.scoring.formats.parquet import SEGMENT_ROWS
from rewardkit.scoring.resume.journal import (
    Journal,
    OutputPaths,
    Segment,
    differences,
    read_manifest,
    reading_part,
    writing,
)
from rewardkit.scoring.summary import added_costs

SEGMENT_BYTES = 24 << 20
SEGMENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What to score; runs with equal jobs write the same rows."""

    identity: Mapping[str, Any]
    """reward_id, step, inputs, map, explode, limit, format: JSON."""
    format: str
    order: str = "input"
    """``input``, or ``groups``: rows are scored in the order in which groups are complete."""

    def data(self) -> dict[str, Any]:
        """Return the job as JSON."""
        return {**self.identity, "format": self.format}


def finished_manifest(paths: OutputPaths, job: Job, *, fresh: bool) -> dict[str, Any] | None:
    """Return the manifest of this job if it is finished, else None.

    Raises:
        UsageError: The output exists and belongs to another job, or another program wrote it.
        OutputError: The manifest is damaged.
    """
    if fresh or not paths.out.exists() or paths.journal.exists():
        return None
    manifest = read_manifest(paths)
    if manifest is None:
        raise UsageError(
            f"{paths.out} exists and was not written by this command; give another --out, or --fresh to replace it"
        )
    if different := differences(manifest["job"], job.data()):
        raise UsageError(
            f"{paths.out} exists and was written by another job: {'; '.join(different)}. Give another --out, or --fresh to replace it"
        )
    return manifest


@dataclass
class Output:
    """An output being written."""

    paths: OutputPaths
    journal: Journal
    part: Part | None
    """None if everything is written and renamed."""
    rejected: IO[bytes] | None
    now: Segment
    """The counts of what has been appended, on the disk or not."""
    waiting_bytes: int = 0
    since: float = field(default_factory=time.monotonic)
    broken: bool = False
    """True if a write failed, so that only the rows in the journal count."""

    @classmethod
    def open(cls, paths: OutputPaths, job: Job, *, fresh: bool = False) -> Output:
        """Begin a job, or resume it where its last run ended.

        Raises:
            UsageError: The folder holds finished rows of another job.
            OutputError: The folder can't be written, or another run is writing there.
        """
        journal = Journal.open(paths, {**job.data(), "order": job.order}, fresh=fresh)
        try:
            return cls._open_files(paths, job, journal)
        except BaseException:
            journal.close()
            raise

    @classmethod
    def _open_files(cls, paths: OutputPaths, job: Job, journal: Journal) -> Output:
        with writing(paths):
            last = journal.last
            if journal.complete and not paths.part.exists():
                # Killed between the last renaming and the journal's removal.
                return cls(paths, journal, None, None, last)
            part: Part
            _cut(paths.part, last.part_bytes, paths)
            if job.order == "input":
                with reading_part(paths):
                    part = open_part(paths.part, job.format, journal.ends)
            else:
                from rewardkit.scoring.resume.restore_order import UnorderedPart

                part = UnorderedPart(paths.part, job.format)
            _cut(paths.rejected_part, last.rejected_bytes, paths)
            rejected = paths.rejected_part.open("ab")
        return cls(paths, journal, part, rejected, last)

    def append(self, scored_chunk: ScoredChunk) -> None:
        """Append a scored chunk, and commit when enough rows or time have passed.

        Raises:
            OutputError: The rows can't be written; committed rows stay.
        """
        assert self.part is not None  # noqa: S101
        assert self.rejected is not None  # noqa: S101
        with self._writing():
            before = self.now
            if scored_chunk.rows:
                self.waiting_bytes += self.part.write(scored_chunk.payload, scored_chunk.place)
            for row in scored_chunk.rejected:
                self.rejected.write(row.line())
            seconds = {
                name: (before.seconds or {}).get(name, 0.0) + spent
                for name, spent in scored_chunk.summary.seconds.items()
            }
            self.now = Segment(
                scored_chunk.consumed,
                before.rows + scored_chunk.rows,
                before.rejected + len(scored_chunk.rejected),
                before.part_bytes,
                before.rejected_bytes,
                seconds,
                before.replaced + scored_chunk.replaced,
                tuple(dict.fromkeys((*before.emptied, *scored_chunk.emptied))),
                added_costs(before.costs or {}, scored_chunk.summary.costs),
            )
        rows = self.now.rows - self.journal.last.rows
        if (
            rows >= SEGMENT_ROWS
            or self.waiting_bytes >= SEGMENT_BYTES
            or time.monotonic() - self.since >= SEGMENT_SECONDS
        ):
            self.commit()

    def commit(self) -> None:
        """Bring all appended rows to the disk. Does nothing if a write has failed."""
        if self.broken or self.now.consumed == self.journal.last.consumed:
            return
        assert self.part is not None  # noqa: S101
        assert self.rejected is not None  # noqa: S101
        with self._writing():
            size = self.part.commit()
            self.rejected.flush()
            os.fsync(self.rejected.fileno())
            now = self.now
            self.now = Segment(
                now.consumed,
                now.rows,
                now.rejected,
                size,
                self.rejected.tell(),
                now.seconds,
                now.replaced,
                now.emptied,
                now.costs,
            )
            self.journal.record(self.now)
        self.waiting_bytes = 0
        self.since = time.monotonic()

    def record_costs(self, costs: Mapping[str, Mapping[str, float]]) -> None:
        """Record what the calls of a run that ends early have cost, those for rows that are not done included.

        Args:
            costs: The sums of all runs so far, by component and name. What is recorded already is never lowered.
        """
        known = self.now.costs or {}
        whole = added_costs({}, known)
        for component, sums in costs.items():
            mine = whole.setdefault(component, {})
            for name, value in sums.items():
                mine[name] = max(mine.get(name, 0.0), value)
        if whole == known or self.broken or self.journal.complete or self.now.consumed != self.journal.last.consumed:
            return
        with self._writing():
            self.now = dataclasses.replace(self.now, costs=whole)
            self.journal.record(dataclasses.replace(self.journal.last, costs=whole))

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Complete the output file. If this is interrupted, the next run does the rest.

        Raises:
            OutputError: The file can't be written.
        """
        self.commit()
        paths = self.paths
        with self._writing():
            if not self.journal.complete:
                self.journal.record_complete()
            if self.part is not None:
                self._finish_rows(self.part, manifest)
            if paths.rejected_part.exists():
                if self.now.rejected:
                    paths.rejected_part.replace(paths.rejected)
                else:
                    paths.rejected.unlink(missing_ok=True)
                    paths.rejected_part.unlink()
            sync_folder(paths.out.parent)
            self.close(remove=True)
            sync_folder(paths.out.parent)

    def _finish_rows(self, part: Part, manifest: Mapping[str, Any]) -> None:
        paths = self.paths
        finished = part.finish(self.journal.ends, paths.rewritten)
        write_whole(paths.manifest, json.dumps(manifest, indent=2).encode() + b"\n")
        # The part is removed last: while it exists, all of this can be repeated.
        put_in_place(finished, paths.out)
        if finished != paths.part:
            paths.part.unlink()

    def close(self, *, remove: bool = False) -> None:
        """Close the files; ``remove`` removes the journal, which ends the job."""
        if self.rejected is not None:
            self.rejected.close()
        self.journal.close(remove=remove)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(self.paths, self.journal.last.rows):
                yield
        except RewardkitError as error:
            self.broken = self.broken or isinstance(error.__cause__, OSError)
            raise
        except BaseException:  # a second Ctrl-C: what was written is unknown
            self.broken = True
            raise


def _cut(path: Path, size: int, paths: OutputPaths) -> None:
    """Truncate a file to the size that the journal states."""
    path.touch()
    if path.stat().st_size < size:
        raise OutputError(f"{path} is shorter than {paths.journal} says; start again with --fresh")
    os.truncate(path, size)


def protected_paths(out: Path) -> list[Path]:
    """Return the files that a glob over the inputs must not match."""
    return OutputPaths(out).all()
