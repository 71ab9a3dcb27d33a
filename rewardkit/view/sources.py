"""What the viewer shows: files and folders are recognised, read by their adapter, and followed while they grow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardkit.errors import DataError
from rewardkit.view.adapters import evaluations, inspect_logs, json_rows, parquet_rows, runs
from rewardkit.view.adapters.lines import Rows
from rewardkit.view.database import Database, parquet_columns, table_columns
from rewardkit.view.queries import Relation

DEPTH = 3
"""Folders below the one that is named in which runs and files are looked for."""
MOST_SOURCES = 100
ROW_FILES = (".parquet", ".jsonl", ".json", ".eval", ".gz", ".zst", ".bz2")


@dataclass(slots=True)
class Source:
    """One file or folder on show."""

    title: str
    kind: str
    """``scored file``, ``training run``, ``evaluation``, or the name of the system that wrote the file."""
    path: Path
    relation: Relation
    reader: Growing | None
    """Reads what is new; None if the rows are read where they lie."""
    state: tuple[int, int] = (0, 0)
    """The size and time of a Parquet file whose rows are read where they lie, and of a run's metrics."""

    def described(self) -> dict[str, Any]:
        """Return what the page says of the source."""
        return {
            "title": self.title,
            "kind": self.kind,
            "path": str(self.path),
            "rows": self.relation.rows,
            "version": self.relation.version,
            "has_metrics": self.kind == "training run",
            "columns": [
                {"id": column.id, "title": column.title, "kind": column.kind, "role": column.role}
                for column in self.relation.columns.values()
                if column.role != "key"
            ],
        }


class Growing:
    """Files of rows that may grow: each call of ``new_rows`` returns what was added since the last.

    Args:
        files: Returns the files in their order.
        read: Yields the rows of one file from a byte on, each with the byte after it; files that are not lines of JSON are read whole
            again when they have changed.
        by_line: The files are lines of JSON, to which lines are appended.
    """

    def __init__(
        self, files: Callable[[], Sequence[Path]], read: Callable[[Path, int], Rows], *, by_line: bool
    ) -> None:
        self._files, self._read, self._by_line = files, read, by_line
        self._known: dict[Path, tuple[int, int]] = {}
        self._done: dict[Path, int] = {}

    def changed(self) -> tuple[bool, list[Path]]:
        """Return whether everything has to be read again, and the files that hold something new."""
        states = {}
        for file in self._files():
            try:
                found = file.stat()
            except OSError:
                continue
            states[file] = (found.st_size, found.st_mtime_ns)
        new = [file for file, state in states.items() if self._known.get(file) != state]
        gone = self._known.keys() - states.keys()
        rewritten = [
            file
            for file in new
            if file in self._known and (not self._by_line or states[file][0] < self._done.get(file, 0))
        ]
        self._known = states
        return bool(gone or rewritten), new

    def rows(self, files: Iterable[Path]) -> Iterable[dict[str, Any]]:
        """Yield the new rows of files."""
        for file in files:
            for row, end in self._read(file, self._done.get(file, 0)):
                self._done[file] = end
                yield row

    def restart(self) -> list[Path]:
        """Forget what was read, and return all files."""
        self._done.clear()
        return list(self._known)


class Sources:
    """All sources of one viewer. Safe in any thread."""

    def __init__(self, paths: Sequence[Path], tell: Callable[[str], None] = lambda _: None) -> None:
        self.database = Database()
        self._lock = threading.Lock()
        self._tell = tell
        self.sources: list[Source] = []
        try:
            for path in paths:
                self._add(path)
            self.database.lock()
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def poll(self) -> list[int]:
        """Read what has been added to the files, and return the version of each source."""
        with self._lock:
            for source in self.sources:
                self._update(source)
            return [source.relation.version for source in self.sources]

    def _update(self, source: Source) -> None:
        relation = source.relation
        if source.reader is None:
            state = _state(source.path)
            if state is not None and state != source.state:
                relation.columns, relation.rows = parquet_columns(source.path)
                self.database.refresh_parquet(relation.name, source.path)
                source.state = state
                relation.version += 1
            return
        again, files = source.reader.changed()
        if again:
            self.database.add_table(relation.name)
            relation.rows, files = 0, source.reader.restart()
        if files:
            added = self.database.insert(relation.name, source.reader.rows(files), relation.rows, relation.columns)
            relation.rows += added
            relation.version += bool(added or again)
        if source.kind == "training run":
            state = _state(source.path / runs.METRICS) or (0, 0)
            relation.version += state != source.state
            source.state = state

    def _add(self, path: Path) -> None:
        if not path.exists():
            raise DataError(f"{path} does not exist")
        found = list(find(path))
        if not found:
            raise DataError(
                f"{path} holds nothing that can be shown: scored files, training runs, evaluations, traces of verifiers, rollouts of "
                "NeMo-Gym, completions of TRL, or logs of Inspect"
            )
        if len(found) > MOST_SOURCES:
            raise DataError(
                f"{path} holds {len(found)} files and runs, more than {MOST_SOURCES}: name a folder below it"
            )
        for item, kind in found:
            title = item.name if item == path else str(item.relative_to(path))
            self._open(item, kind, title)

    def _open(self, path: Path, kind: str, title: str) -> None:
        name = f"rows_{len(self.sources)}"
        if kind == "scored file" and path.suffix == ".parquet":
            columns, rows = parquet_columns(path)
            self.database.add_parquet(name, path)
            relation = Relation(name, columns, rows, is_table=False)
            self.sources.append(Source(title, kind, path, relation, None, _state(path) or (0, 0)))
            return
        self._tell(f"reading {path}")
        reader = reader_of(path, kind)
        relation = Relation(name, table_columns(), 0, is_table=True)
        self.database.add_table(name)
        _, files = reader.changed()
        relation.rows = self.database.insert(name, reader.rows(files), 0, relation.columns)
        self.sources.append(Source(title, kind, path, relation, reader, _state(path / runs.METRICS) or (0, 0)))


def reader_of(path: Path, kind: str) -> Growing:
    """Return what reads the rows of a source."""
    if kind == "training run":
        return Growing(lambda: [path / "samples.jsonl"], runs.rows, by_line=True)
    if kind == "evaluation":
        return Growing(lambda: [path], evaluations.rows, by_line=True)
    if kind == "completions of TRL" and path.is_dir():
        return Growing(lambda: sorted(path.glob("completions_*.parquet")), parquet_rows.rows, by_line=False)
    if path.suffix == ".parquet":
        return Growing(lambda: [path], parquet_rows.rows, by_line=False)
    if kind == "logs of Inspect":
        return Growing(lambda: [path], inspect_logs.rows, by_line=False)
    return Growing(lambda: [path], json_rows.rows, by_line=path.suffix == ".jsonl")


def find(path: Path, depth: int = DEPTH) -> Iterable[tuple[Path, str]]:
    """Yield the files and folders at or below a path that can be shown, each with its kind.

    Raises:
        DataError: The path is a file that can't be shown.
    """
    if path.is_file():
        named = path.name.startswith("answers-") and path.suffix == ".jsonl"
        yield path, "evaluation" if named else kind_of_file(path)
        return
    if runs.is_run(path):
        yield path, "training run"
    elif answers := evaluations.answer_files(path):
        yield from ((file, "evaluation") for file in answers)
    elif any(path.glob("completions_*.parquet")):
        yield path, "completions of TRL"
    else:
        for item in sorted(path.iterdir()):
            if item.is_dir() and not item.name.startswith(".") and depth:
                yield from find(item, depth - 1)
            elif item.is_file() and not item.name.startswith(".") and item.suffix in ROW_FILES:
                try:
                    yield item, kind_of_file(item)
                except DataError:
                    continue  # other files of a folder are none of the viewer's business


def kind_of_file(path: Path) -> str:
    """Return the kind of a file.

    Raises:
        DataError: It can't be read or shown.
    """
    if path.suffix == ".eval":
        return "logs of Inspect"
    if path.suffix == ".parquet":
        try:
            names = set(pq.read_schema(path).names)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} can't be read: {error}") from error
        if "reward" in names and {"prompt", "completion"} <= names:
            return "scored file"
        kind = parquet_rows.kind_of(names)
        if kind is None:
            raise DataError(
                f"{path} has the columns {', '.join(sorted(names)[:20])}: prompt, completion and rewards are needed; score it first "
                "with `rewardkit score`"
            )
        return kind
    return json_rows.kind_of(path)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
