"""What the viewer shows: files and folders are recognised, read by their adapter, and followed while they grow."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardkit.errors import DataError
from rewardkit.view.adapters import evaluations, json_rows, parquet_rows, runs
from rewardkit.view.database import Database, parquet_columns, table_columns
from rewardkit.view.queries import Relation
from rewardkit.view.reading import LARGE_BYTES, SCORED, Growing, Loading, reader_of

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
    """The size and time of a Parquet file whose rows are read where they lie, of a large file of JSON Lines, and of a run's metrics."""
    loaded: tuple[int, int] = (0, 0)
    """Size and time of a large file of JSON Lines when its rows were read."""
    loading: Loading | None = None
    """Reads the rest of a large file of JSON Lines; None if the source is no such file."""

    @property
    def is_loading(self) -> bool:
        """True while the rows on show are only the first ones."""
        return self.loading is not None and self.loading.is_alive()

    def described(self) -> dict[str, Any]:
        """Return what the page says of the source."""
        return {
            "title": f"{self.title} (first rows; reading)" if self.is_loading else self.title,
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


class Sources:
    """All sources of one viewer. Safe in any thread."""

    def __init__(self, paths: Sequence[Path], tell: Callable[[str], None] = lambda _: None) -> None:
        self.database = Database()
        self._lock = threading.RLock()
        self._tell = tell
        self.sources: list[Source] = []
        self._names = 0
        try:
            for path in paths:
                self._add(path)
            self.database.lock()
            for source in self.sources:
                if source.loading is not None:
                    source.loading.start()
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        for source in self.sources:
            if source.loading is not None:
                source.loading.stop()
        self.database.close()

    def poll(self) -> list[int]:
        """Read what has been added to the files, and return the version of each source.

        Raises:
            DataError: A file can't be read.
        """
        with self._lock:
            for source in self.sources:
                self._update(source)
            for source in self.sources:
                if source.loading is not None and source.loading.problem:
                    raise DataError(source.loading.problem)
            return [source.relation.version for source in self.sources]

    def _update(self, source: Source) -> None:
        relation = source.relation
        if source.loading is not None and source.reader is None:
            self._reload(source)
            return
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

    def _reload(self, source: Source) -> None:
        """Read a large file of JSON Lines again once it has changed, and is the same in two polls. Until then the old rows are shown."""
        state = _state(source.path)
        is_quiet, source.state = state == source.state, state or source.state
        if source.is_loading or state is None or source.loading is None:
            return
        if is_quiet and state != source.loaded:
            source.loading = self._loading(source, self._next_name())
            source.loaded = state
            source.loading.start()

    def _loading(self, source: Source, name: str) -> Loading:
        def show(relation: Relation, reader: Growing | None) -> None:
            with self._lock:
                relation.version = max(relation.version, source.relation.version) + 1
                source.relation, source.reader = relation, reader

        return Loading(source.path, self.database, name, self._target(source), show)

    def _target(self, source: Source) -> Path:
        """Return where a large file of JSON Lines is kept as Parquet."""
        digest = hashlib.sha256(str(source.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
        return self.database.folder / f"{digest[:16]}.parquet"

    def _next_name(self) -> str:
        self._names += 1
        return f"rows_{self._names}"

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
        name = self._next_name()
        if kind == SCORED and path.suffix == ".parquet":
            columns, rows = parquet_columns(path)
            self.database.add_parquet(name, path)
            relation = Relation(name, columns, rows, is_table=False)
            self.sources.append(Source(title, kind, path, relation, None, _state(path) or (0, 0)))
            return
        self._tell(f"reading {path}")
        if kind == SCORED and path.suffix != ".bz2" and path.stat().st_size >= LARGE_BYTES:
            state = _state(path) or (0, 0)
            source = Source(title, kind, path, Relation(name, table_columns(), 0, is_table=True), None, state)
            self.database.allow(self._target(source))
            source.loading, source.loaded = self._loading(source, name), state
            source.relation = source.loading.first_rows
            self.sources.append(source)
            return
        reader = reader_of(path, kind)
        relation = Relation(name, table_columns(), 0, is_table=True)
        self.database.add_table(name)
        _, files = reader.changed()
        relation.rows = self.database.insert(name, reader.rows(files), 0, relation.columns)
        self.sources.append(Source(title, kind, path, relation, reader, _state(path / runs.METRICS) or (0, 0)))


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
