"""Brings the rows of each group together, for rewards that compare the rollouts of one prompt.

The input is read twice: first to learn where each group ends, then to hold rows back until their group is whole. What is held beyond
64 MB waits in a temporary file, so memory stays bounded however groups are spread over the input.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from rewardkit.scoring.formats.decode import Columns, RowError, group_key, read_row
from rewardkit.scoring.formats.readers import Chunk, RawRow, Reader

MEMORY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Where groups end."""

    last: dict[int, int]
    """A group's hash → the ordinal of its last row."""
    interleaved: bool
    """Whether rows of different groups are mixed, so that work is done in another order than the input's."""


def plan_groups(reader: Reader, columns: Columns) -> GroupPlan:
    """Read everything once and note the last row of each group."""
    last: dict[int, int] = {}
    interleaved = False
    previous: int | None = None
    for chunk in reader.chunks():
        for raw, ordinal in zip(chunk.rows, chunk.ordinals, strict=True):
            key = _key(raw, columns)
            if key is None:
                continue
            if key != previous and key in last:
                interleaved = True
            last[key] = ordinal
            previous = key
    return GroupPlan(last, interleaved)


def gather(reader: Reader, columns: Columns, plan: GroupPlan, skip: int = 0) -> Iterator[Chunk]:
    """Chunks of whole groups, in the order in which groups become whole.

    Args:
        reader: The input.
        columns: How rows are renamed, since that may decide what the group is.
        plan: What ``plan_groups`` found in the same input.
        skip: Rows to leave out, in this same order.
    """
    with contextlib.closing(_Held()) as held:
        ready: list[_Row] = []
        done = 0
        for complete, latest in _complete(reader, columns, plan, held):
            done += len(complete)
            # Chunks, and so what an earlier run did, end where groups do.
            if done <= skip:
                held.drop(complete)
                continue
            ready += complete
            if len(ready) >= reader.max_rows:
                yield _chunk(ready, held, done, latest)
                ready = []
        if ready:
            yield _chunk(ready, held, done, latest)


def _complete(reader: Reader, columns: Columns, plan: GroupPlan, held: _Held) -> Iterator[tuple[list[_Row], Chunk]]:
    """Whole groups, each with the chunk that completed it; a row without a group alone."""
    waiting: dict[int, list[_Row]] = {}
    for chunk in reader.chunks():
        for index, raw in enumerate(chunk.rows):
            row = _Row(held.put(raw), chunk.files[index], chunk.numbers[index], chunk.ordinals[index])
            key = _key(raw, columns)
            if key is None:
                yield [row], chunk
                continue
            waiting.setdefault(key, []).append(row)
            if row.ordinal >= plan.last[key]:
                yield waiting.pop(key), chunk


@dataclass(frozen=True, slots=True)
class _Row:
    place: tuple[int, int] | bytes
    file: str
    number: int
    ordinal: int


def _chunk(rows: list[_Row], held: _Held, consumed: int, latest: Chunk) -> Chunk:
    return Chunk(
        [row.file for row in rows],
        [row.number for row in rows],
        [held.take(row.place) for row in rows],
        [row.ordinal for row in rows],
        consumed,
        latest.position,
        latest.types,
    )


def _key(raw: RawRow, columns: Columns) -> int | None:
    """A hash of the row's group; None where the row can't be used anyway."""
    try:
        row = columns.rename(read_row(raw)[0])
    except RowError:
        return None
    group = row.get("group")
    if group is None:
        prompt = row.get("prompt")
        if not isinstance(prompt, str | list):
            return None
        return int(group_key(prompt), 16)
    if isinstance(group, float) and group.is_integer():
        group = int(group)
    digest = hashlib.blake2b(f"{type(group).__name__}:{group}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


@dataclass
class _Held:
    """Rows that wait for others."""

    memory: int = 0
    spilled: int = 0
    file: IO[bytes] | None = None
    end: int = 0

    def put(self, raw: RawRow) -> tuple[int, int] | bytes:
        """Hold a row; returns where."""
        data = b"j" + raw if isinstance(raw, bytes) else b"p" + pickle.dumps(raw)
        if self.memory + len(data) <= MEMORY_BYTES:
            self.memory += len(data)
            return data
        if self.file is None:
            self.file = tempfile.TemporaryFile(prefix="rewardkit-groups-")  # noqa: SIM115 - lives as long as this object
        self.file.seek(self.end)
        self.file.write(data)
        place = self.end, len(data)
        self.end += len(data)
        self.spilled += 1
        return place

    def drop(self, rows: list[_Row]) -> None:
        """Forget rows."""
        for row in rows:
            self.take(row.place)

    def close(self) -> None:
        """Let go of the temporary file."""
        if self.file is not None:
            self.file.close()

    def take(self, place: tuple[int, int] | bytes) -> RawRow:
        """A row that was put here; it is held no longer."""
        if isinstance(place, bytes):
            data = place
            self.memory -= len(data)
        else:
            assert self.file is not None  # noqa: S101
            self.file.seek(place[0])
            data = self.file.read(place[1])
            self.spilled -= 1
            if not self.spilled:
                self.end = 0
                self.file.truncate(0)
        if data[:1] == b"j":
            return data[1:]
        row: dict[str, Any] = pickle.loads(data[1:])  # noqa: S301 - written a moment ago by put
        return row
