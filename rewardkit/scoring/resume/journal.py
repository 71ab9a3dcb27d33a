"""What has been written so far, so that a run that ends at any moment is continued by the next.

Beside the output lie ``OUT.part`` (scored rows), ``OUT.rejected.part`` (rows set aside) and ``OUT.journal``: a line that says what job
this is, then a line per segment of rows that is safely on the disk, with the sizes of the other two files at that point. What lies
beyond the last recorded size is cut off when the job goes on. At the end the parts are renamed, a manifest is left that says how
the output was made, and the journal goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rewardkit.errors import OutputError, UsageError
from rewardkit.files import sync_folder

_VERSION = 1


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The files of one output."""

    out: Path

    def beside(self, ending: str) -> Path:
        """The file with a further ending."""
        return self.out.with_name(self.out.name + ending)

    @property
    def part(self) -> Path:
        """Scored rows, while the job runs."""
        return self.beside(".part")

    @property
    def rewritten(self) -> Path:
        """The final file, where it has to be written anew at the end."""
        return self.beside(".rewritten")

    @property
    def journal(self) -> Path:
        """What of ``part`` counts."""
        return self.beside(".journal")

    @property
    def manifest(self) -> Path:
        """How the output was made; stays."""
        return self.beside(".manifest.json")

    @property
    def rejected(self) -> Path:
        """Rows set aside, where there were any; stays."""
        return self.beside(".rejected.jsonl")

    @property
    def rejected_part(self) -> Path:
        """The same while the job runs."""
        return self.beside(".rejected.part")

    def all(self) -> list[Path]:
        """Every file that belongs to the output."""
        return [
            self.out,
            self.part,
            self.rewritten,
            self.journal,
            self.manifest,
            self.rejected,
            self.rejected_part,
        ]


@dataclass(frozen=True, slots=True)
class Segment:
    """What is safely written, counted from the start of the job."""

    consumed: int = 0
    """Rows of the input that are dealt with."""
    rows: int = 0
    """Rows of the output."""
    rejected: int = 0
    part_bytes: int = 0
    rejected_bytes: int = 0
    seconds: Mapping[str, float] | None = None
    """Time spent by each component."""
    replaced: int = 0
    """Rows whose text had to be changed for Parquet."""
    emptied: tuple[str, ...] = ()
    """Columns whose empty objects had to become null for Parquet."""


class Journal:
    """The open journal of a job. Only one process can have it open."""

    def __init__(self, paths: OutputPaths, file: IO[bytes], segments: list[Segment], *, complete: bool) -> None:
        self.paths = paths
        self._file = file
        self.segments = segments
        self.complete = complete
        """Whether all rows are written and only the renaming is left."""

    @classmethod
    def open(cls, paths: OutputPaths, job: Mapping[str, Any], *, fresh: bool = False) -> Journal:
        """Begin a job, or take up where it was left.

        Raises:
            UsageError: The journal is of another job.
            OutputError: The folder can't be written, or another process writes this output.
        """
        with writing(paths):
            file = paths.journal.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                raise OutputError(f"{paths.out} is being written by another run") from error
            try:
                return cls._read(paths, file, job, fresh=fresh)
            except BaseException:
                file.close()
                raise

    @classmethod
    def _read(cls, paths: OutputPaths, file: IO[bytes], job: Mapping[str, Any], *, fresh: bool) -> Journal:
        file.seek(0)
        lines = file.read().split(b"\n")
        # The last line is empty, or was cut off by a kill.
        good = [json.loads(line) for line in lines[:-1]]
        if good and good[0].get("version") == _VERSION and not fresh:
            if different := differences(good[0]["job"], job):
                raise UsageError(
                    f"{paths.part} holds the finished rows of another job: {'; '.join(different)}. "
                    "Give another --out, or --fresh to throw them away"
                )
            if (
                not paths.part.exists()
                and not paths.rewritten.exists()
                and len(good) > 1
                and not good[-1].get("complete")
            ):
                raise OutputError(f"{paths.part} is gone, but {paths.journal} tells of it; start again with --fresh")
            file.truncate(sum(len(line) + 1 for line in lines[:-1]))
            segments = [Segment(**line["segment"]) for line in good[1:] if "segment" in line]
            return cls(paths, file, segments, complete=bool(good[-1].get("complete")))
        file.truncate(0)
        for path in (paths.part, paths.rejected_part, paths.rewritten):
            path.unlink(missing_ok=True)
        journal = cls(paths, file, [], complete=False)
        journal._append({"version": _VERSION, "job": dict(job)})
        sync_folder(paths.out.parent)
        return journal

    @property
    def last(self) -> Segment:
        """Everything that is safely written."""
        return self.segments[-1] if self.segments else Segment()

    @property
    def ends(self) -> list[int]:
        """Where in the part each segment that has rows ends."""
        return sorted({segment.part_bytes for segment in self.segments} - {0})

    def record(self, segment: Segment) -> None:
        """Note a segment. Call when the other files are on the disk."""
        self._append({"segment": {name: getattr(segment, name) for name in Segment.__slots__}})
        self.segments.append(segment)

    def record_complete(self) -> None:
        """Note that all rows are written."""
        self._append({"complete": True})
        self.complete = True

    def close(self, *, remove: bool = False) -> None:
        """Close the journal; the job is done if it is removed."""
        if remove:
            self.paths.journal.unlink(missing_ok=True)
        self._file.close()

    def _append(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextlib.contextmanager
def writing(paths: OutputPaths, kept: int = 0) -> Iterator[None]:
    """Turns what the operating system says about a failed write into an OutputError that says how to go on."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        advice = f"; the {kept:,} rows written so far are kept, run the same command again to go on" if kept else ""
        raise OutputError(f"{paths.out} can't be written: {what}{advice}") from error


def read_manifest(paths: OutputPaths) -> dict[str, Any] | None:
    """What is known of a finished output; None where there is no manifest that can be read."""
    try:
        data = json.loads(paths.manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) and "job" in data else None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two jobs differ in, for people; empty if they are the same."""
    names = {
        "reward_id": "the reward",
        "step": "--step",
        "map": "--map",
        "explode": "--explode",
        "limit": "--limit",
        "format": "the format",
        "order": "the order of work",
    }
    result = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if json.loads(json.dumps(old)) == json.loads(json.dumps(new)):
            continue
        if key == "inputs":
            result.append(_input_difference(old or [], new or []))
        else:
            result.append(f"{names.get(key, key)} was {_short(old)} and is {_short(new)}")
    return result


def _input_difference(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    old_files, new_files = [item["file"] for item in old], [item["file"] for item in new]
    if old_files != new_files:
        return f"the input was {', '.join(old_files)} and is {', '.join(new_files)}"
    changed = [item["file"] for item, before in zip(new, old, strict=True) if item != before]
    return f"{', '.join(changed)} has changed since"


def _short(value: Any) -> str:
    return "not given" if value in (None, [], {}) else value if isinstance(value, str) else json.dumps(value)
