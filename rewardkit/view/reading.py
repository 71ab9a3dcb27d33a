"""Reads the rows of files: those of growing files as they are added, those of large ones while the first are on show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from rewardkit.errors import DataError
from rewardkit.view.adapters import evaluations, inspect_logs, json_rows, parquet_rows, runs
from rewardkit.view.adapters.lines import Rows
from rewardkit.view.conversion import Conversion, NotConvertibleError
from rewardkit.view.database import INSERTED_AT_ONCE, Database, parquet_columns, table_columns
from rewardkit.view.queries import Relation

SCORED = "scored file"
LARGE_BYTES = 8 << 20
"""Files of scored JSON Lines from this size on are shown before all of their rows have been read."""
FIRST_ROWS = 1_000
"""Rows of such a file that are shown at once."""
CLOSE_S = 5.0


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


Show: TypeAlias = Callable[[Relation, Growing | None], None]


class Loading(threading.Thread):
    """Reads a large file of scored JSON Lines while its first rows are on show, and puts all rows in their place.

    Args:
        path: The file.
        database: Gets the rows.
        name: The name of the table, and the start of that of the view.
        target: A file that the database is allowed to read.
        show: Called with the rows to show, and what reads rows that are added to the file: None if they are not read one by one.

    Raises:
        DataError: One of the first rows can't be read.
    """

    def __init__(self, path: Path, database: Database, name: str, target: Path, show: Show) -> None:
        super().__init__(name=f"rewardkit-view-{name}", daemon=True)
        self._database, self._table, self._target, self._show = database, name, target, show
        self._reader = reader_of(path, SCORED)
        _, files = self._reader.changed()
        self._rows = iter(self._reader.rows(files))
        self._conversion = Conversion(path, target, database.folder / "spilled")
        self._stopped = False
        self.problem = ""
        """Why rows could not be read; empty if they could."""
        database.add_table(name)
        self._relation = Relation(name, table_columns(), 0, is_table=True)
        self._insert(FIRST_ROWS)

    @property
    def first_rows(self) -> Relation:
        """The first rows, or as many as have been read one by one."""
        return self._relation

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped = True
        self._conversion.stop()
        if self.is_alive():
            self.join(CLOSE_S)

    def run(self) -> None:
        """Convert the file, or read it row by row."""
        try:
            self._conversion.run()
        except NotConvertibleError:
            try:
                self._read_rows()
            except DataError as error:
                self.problem = str(error)
            return
        columns, rows = parquet_columns(self._target)
        view = f"{self._table}_all"
        self._database.refresh_parquet(view, self._target)
        self._show(Relation(view, columns, rows, is_table=False), None)

    def _read_rows(self) -> None:
        self._show(self._relation, None)
        while not self._stopped and self._insert(INSERTED_AT_ONCE):
            pass
        self._show(self._relation, self._reader)

    def _insert(self, count: int) -> int:
        relation = self._relation
        added = self._database.insert(self._table, islice(self._rows, count), relation.rows, relation.columns)
        relation.rows += added
        relation.version += 1
        return added


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
