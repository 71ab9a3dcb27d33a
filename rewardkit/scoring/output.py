"""The output of a job: its part, its rejected rows, its journal, and at the end the finished file with its manifest."""

from __future__ import annotations

import contextlib
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

SEGMENT_BYTES = 64 << 20
SEGMENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done; two runs with equal jobs give the same rows."""

    identity: Mapping[str, Any]
    """reward_id, step, inputs, map, explode, limit, format: JSON."""
    format: str
    order: str = "input"
    """``groups``: work is done in another order than the input's."""

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.identity, "format": self.format}


def finished_manifest(paths: OutputPaths, job: Job, *, fresh: bool) -> dict[str, Any] | None:
    """The manifest of this very job, if it was finished before.

    Raises:
        UsageError: The output is there and is of another job, or of nobody knows what.
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
            f"{paths.out} exists and is of another job: {'; '.join(different)}. Give another --out, or --fresh to replace it"
        )
    return manifest


@dataclass
class Output:
    """An output being written."""

    paths: OutputPaths
    journal: Journal
    part: Part | None
    """None: everything is written and renamed already."""
    rejected: IO[bytes] | None
    now: Segment
    """What is written, on the disk or not yet."""
    waiting_bytes: int = 0
    since: float = field(default_factory=time.monotonic)
    broken: bool = False
    """Whether a write failed, so that only what is in the journal counts."""

    @classmethod
    def open(cls, paths: OutputPaths, job: Job, *, fresh: bool = False) -> Output:
        """Begin, or go on where the last run of this job ended.

        Raises:
            UsageError: There are finished rows of another job.
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
                from rewardkit.scoring.resume.restore_order import UnorderedPart  # noqa: PLC0415 - seldom needed

                part = UnorderedPart(paths.part, job.format)
            _cut(paths.rejected_part, last.rejected_bytes, paths)
            rejected = paths.rejected_part.open("ab")
        return cls(paths, journal, part, rejected, last)

    def append(self, scored_chunk: ScoredChunk) -> None:
        """Add a scored_chunk, and bring everything to the disk when it is time.

        Raises:
            OutputError: It can't be written; what was committed before stays.
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
            )
        rows = self.now.rows - self.journal.last.rows
        if (
            rows >= SEGMENT_ROWS
            or self.waiting_bytes >= SEGMENT_BYTES
            or time.monotonic() - self.since >= SEGMENT_SECONDS
        ):
            self.commit()

    def commit(self) -> None:
        """Bring everything appended so far to the disk. Does nothing where a write failed before."""
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
            )
            self.journal.record(self.now)
        self.waiting_bytes = 0
        self.since = time.monotonic()

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Make the finished file. May be interrupted anywhere: the next run does the rest.

        Raises:
            OutputError: It can't be written.
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
        # The part goes last: as long as it is there, all of this can be done again.
        finished.replace(paths.out)
        if finished != paths.part:
            paths.part.unlink()

    def close(self, *, remove: bool = False) -> None:
        """Close the files. The job is done if the journal is removed."""
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
        except BaseException:  # a second Ctrl-C: nobody knows what was counted
            self.broken = True
            raise


def _cut(path: Path, size: int, paths: OutputPaths) -> None:
    """Cut off what the journal does not tell of."""
    path.touch()
    if path.stat().st_size < size:
        raise OutputError(f"{path} is shorter than {paths.journal} says; start again with --fresh")
    os.truncate(path, size)


def protected_paths(out: Path) -> list[Path]:
    """Files that a glob over the inputs must not pick up."""
    return OutputPaths(out).all()
