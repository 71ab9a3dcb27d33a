"""Records what has been written, so that a run that ends at any moment can be resumed.

A running job writes ``OUT.part`` (scored rows), ``OUT.rejected.part`` (rejected rows) and ``OUT.journal``. The journal's first line
describes the job. Each further line records a segment of rows that is on the disk, with the sizes of the other two files at that
point. When a job is resumed, both files are cut to the last recorded sizes. At the end the parts are renamed, a manifest describes
how the output was made, and the journal is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rewardkit.errors import OutputError, UsageError
from rewardkit.files import sync_folder

_VERSION = 1
_COUNTS = ("rows_read", "rows_written", "rows_rejected", "text_replaced_rows")


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
        """The final file, if the rows must be written once more at the end."""
        return self.beside(".rewritten")

    @property
    def journal(self) -> Path:
        """The record of what has been written."""
        return self.beside(".journal")

    @property
    def manifest(self) -> Path:
        """How the output was made."""
        return self.beside(".manifest.json")

    @property
    def rejected(self) -> Path:
        """Rejected rows, if there are any."""
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
    """The rows and bytes on the disk, counted from the start of the job."""

    consumed: int = 0
    """Rows of the input that are done."""
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
    costs: Mapping[str, Mapping[str, float]] | None = None
    """What the calls of each component have cost."""


class Journal:
    """The open journal of a job. Only one process can have it open."""

    def __init__(self, paths: OutputPaths, file: IO[bytes], segments: list[Segment], *, complete: bool) -> None:
        self.paths = paths
        self._file = file
        self.segments = segments
        self.complete = complete
        """True if all rows are written and only the renaming is left."""

    @classmethod
    def open(cls, paths: OutputPaths, job: Mapping[str, Any], *, fresh: bool = False) -> Journal:
        """Begin a job, or resume it.

        Raises:
            UsageError: The journal belongs to another job.
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
        good = [] if fresh else _entries(paths, lines[:-1])
        if good:
            if different := differences(good[0]["job"], job):
                raise UsageError(
                    f"{paths.part} holds the finished rows of another job: {'; '.join(different)}. "
                    "Give another --out, or --fresh to discard them"
                )
            if (
                not paths.part.exists()
                and not paths.rewritten.exists()
                and len(good) > 1
                and not good[-1].get("complete")
            ):
                raise OutputError(
                    f"{paths.part} is missing, but {paths.journal} refers to it; start again with --fresh"
                )
            file.truncate(sum(len(line) + 1 for line in lines[:-1]))
            segments = [line["segment"] for line in good[1:] if "segment" in line]
            return cls(paths, file, segments, complete=bool(good[-1].get("complete")))
        file.truncate(0)
        for path in (paths.part, paths.rejected_part, paths.rewritten):
            _remove(path)
        journal = cls(paths, file, [], complete=False)
        journal._append({"version": _VERSION, "job": dict(job)})
        sync_folder(paths.out.parent)
        return journal

    @property
    def last(self) -> Segment:
        """The state at the last commit."""
        return self.segments[-1] if self.segments else Segment()

    @property
    def ends(self) -> list[int]:
        """The size of the part at the end of each segment that has rows."""
        return sorted({segment.part_bytes for segment in self.segments} - {0})

    def record(self, segment: Segment) -> None:
        """Record a segment. The other files must be on the disk already."""
        self._append({"segment": {name: getattr(segment, name) for name in Segment.__slots__}})
        self.segments.append(segment)

    def record_complete(self) -> None:
        """Record that all rows are written."""
        self._append({"complete": True})
        self.complete = True

    def close(self, *, remove: bool = False) -> None:
        """Close the journal; ``remove`` removes it, which ends the job."""
        if remove:
            self.paths.journal.unlink(missing_ok=True)
        self._file.close()

    def _append(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _entries(paths: OutputPaths, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse a journal's lines: the job, then segments.

    Raises:
        OutputError: A line is damaged, or another version wrote the journal.
    """
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if "segment" in entry:
                entry["segment"] = _segment(entry["segment"])
            elif number == 1 and entry["version"] != _VERSION:
                raise OutputError(
                    f"{paths.journal} was written by another version of rewardkit; finish the run with that version, "
                    "or start again with --fresh"
                )
            elif number == 1 and not isinstance(entry["job"], dict):
                raise TypeError("no job")  # noqa: TRY301 - handled as any damage
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise OutputError(
                f"{paths.journal}:{number} is damaged, so the rows written so far can't be trusted; "
                "start again with --fresh"
            ) from error
        entries.append(entry)
    return entries


def _segment(data: Any) -> Segment:
    """Check a segment as the journal holds it. Raises TypeError or ValueError where it is damaged."""
    segment = Segment(**data)
    counts = (segment.consumed, segment.rows, segment.rejected, segment.part_bytes, segment.rejected_bytes)
    if any(type(count) is not int or count < 0 for count in (*counts, segment.replaced)):
        raise ValueError("a count is no whole number")
    maps = segment.seconds, segment.costs
    if not all(isinstance(item, dict | None) for item in maps) or not isinstance(segment.emptied, list | tuple):
        raise TypeError("seconds, costs or emptied is of another type")
    return dataclasses.replace(segment, emptied=tuple(segment.emptied))


def _remove(path: Path) -> None:
    """Remove a file or an empty folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def reading_part(paths: OutputPaths) -> Iterator[None]:
    """Turn what libraries raise on a damaged part into an OutputError that names the file."""
    try:
        yield
    except (ValueError, TypeError, LookupError, EOFError, OSError, NotImplementedError) as error:
        raise OutputError(
            f"{paths.part} is damaged ({' '.join(str(error).split())[:200]}); start again with --fresh"
        ) from error


@contextlib.contextmanager
def writing(paths: OutputPaths, kept: int = 0) -> Iterator[None]:
    """Turn the OSError of a failed write into an OutputError that says how to resume."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        advice = f"; the {kept:,} rows written so far are kept, and the same command resumes the run" if kept else ""
        name = error.filename if isinstance(error.filename, str) else ""
        where = f" ({name})" if name and name != str(paths.out) else ""
        raise OutputError(f"{paths.out} can't be written: {what}{where}{advice}") from error


def read_manifest(paths: OutputPaths) -> dict[str, Any] | None:
    """Return the manifest of a finished output; None if there is none.

    Raises:
        OutputError: The manifest is damaged.
    """
    try:
        data = json.loads(paths.manifest.read_bytes())
        for name in _COUNTS:
            int(data[name])
        summary = data["summary"]
        whole = isinstance(data["job"], dict) and {"rows", "unscored_reasons"} <= summary.keys()
        whole = whole and {"unscored", "n"} <= summary["reward"].keys() and isinstance(summary["components"], dict)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise _damaged_manifest(paths) from error
    if not whole:
        raise _damaged_manifest(paths)
    result: dict[str, Any] = data
    return result


def _damaged_manifest(paths: OutputPaths) -> OutputError:
    return OutputError(f"{paths.manifest} is damaged; give another --out, or --fresh to score again")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe what two jobs differ in; empty if they are equal."""
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
