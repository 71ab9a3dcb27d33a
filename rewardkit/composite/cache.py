"""A cache of scores in a SQLite file, which any number of runs may share.

The key of a score is the plugin and its version, the parameters, the content of files that they name, and the row, or the part of it
that the reward declares as its ``content``. So runs that differ only in weights, gates or clips call no deterministic reward again.

Scores and ``NotApplicable`` are kept, never ``Unscored``. A file that is damaged or has another version is replaced; if
that fails too, the run goes on without a cache.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from rewardkit.config.content import named_files
from rewardkit.config.params import plain_params
from rewardkit.config.spec import Component
from rewardkit.types import NotApplicable, Rollout, Score

logger = logging.getLogger(__name__)

MAX_BYTES = 4 * 1024**3
"""If the file is larger, the older half of it is dropped when it is opened."""
VERSION = 1
"""The version of the table, kept as SQLite's ``user_version``."""
_SELECT_AT_ONCE = 500
Kept: TypeAlias = Score | NotApplicable
"""What the cache keeps."""


def default_folder() -> Path:
    """Return ``$REWARDKIT_CACHE_DIR``, or ``rewardkit`` in the user's cache folder."""
    if folder := os.environ.get("REWARDKIT_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rewardkit"


def component_key(component: Component) -> bytes | None:
    """Return a hash of what determines a component's scores; its name, weight, conditions and clips do not.

    Returns:
        None if the reward can't tell what it depends on.
    """
    offer = component.offer
    own = None
    if offer.type.identity is not None:
        own = offer.type.identity(component.params)
        if own is None:
            return None
    plain = plain_params(component.params)
    identity = [
        offer.provenance.distribution,
        offer.provenance.version,
        offer.type.name,
        plain,
        own,
    ]
    if files := named_files(plain):
        identity.append(files)
    return hashlib.blake2b(
        json.dumps(identity, sort_keys=True).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def unit_key(
    component: bytes, rollouts: Sequence[Rollout], looks_at: Callable[[Rollout], Any] | None = None
) -> bytes | None:
    """Return the cache key of a unit: one rollout, or the rollouts of one group in their order.

    Args:
        component: What ``component_key`` returned.
        rollouts: The unit.
        looks_at: A function that returns the part of a rollout that determines its score; None for the whole rollout.

    Returns:
        None if a row holds a value that can't be serialized exactly, such as an array. Its score is not kept.
    """
    digest = hashlib.blake2b(component, digest_size=16)
    for rollout in rollouts:
        if looks_at is not None:
            try:
                digest.update(_exact([looks_at(rollout)]))
            # The boundary: it is the plugin's code, and a row may hold anything. Scoring reports what is wrong with it.
            except Exception:  # noqa: BLE001
                return None
            digest.update(b"\0")
            continue
        content = [rollout.prompt, rollout.completion, dict(rollout.fields)]
        # Formatted apart from the rest, which is faster since they are mostly None.
        digest.update(
            f"{rollout.group!r} {rollout.num_tokens!r} {rollout.finish_reason!r} ".encode("utf-8", "surrogatepass")
        )
        try:
            digest.update(_exact(content))
        except (TypeError, ValueError, RecursionError):
            return None
        digest.update(b"\0")
    return digest.digest()


def _exact(content: list[Any]) -> bytes:
    """Return JSON that is different for different content."""
    try:
        text = orjson.dumps(content, default=_plain_value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits, or types that JSON lacks
        text = b"null"
    if b"null" not in text:
        return text
    # orjson writes NaN, the infinities and None all as null.
    return json.dumps(content, default=_plain_value, sort_keys=True).encode()


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Decimal | dt.date | dt.time):
        return {type(value).__name__: str(value)}
    raise TypeError(f"a {type(value).__name__} has no exact text")


class ScoreCache:
    """Scores by key. Safe to use from several threads and processes at once. It is empty if its file can't be used."""

    def __init__(self, folder: Path | None = None) -> None:
        self.file = (folder or default_folder()) / "scores.sqlite"
        self.hits = 0
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> None:
        """Open the file. One that is damaged, or of another version, is replaced."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.OperationalError:  # locked, or not to be opened: the file itself may be sound
                raise
            except sqlite3.DatabaseError as error:
                self._replace(error)
                self._connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            _check_version(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB UNIQUE, value BLOB)")
            connection.execute(f"PRAGMA user_version={VERSION}")
            self._shrink(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _replace(self, error: Exception) -> None:
        """Set a file aside that can't be used. Raises OSError."""
        aside = self.file.with_suffix(".damaged")
        logger.warning(
            "the score cache %s can't be used (%s): it is now %s, and a new one is begun", self.file, error, aside
        )
        self.file.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)

    def reopen(self) -> None:
        """Open the file again in a forked process: a connection of SQLite must not be used in two processes."""
        self._lock = threading.Lock()  # another thread may have held it when the process was forked
        self._after_fork()

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if self._connection is not None:
                self._inherited = self._connection  # closing it would end the parent's locks
                self._connection = None
                self._open()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, list[Kept]]:
        """Return the results that are known, by key: for each unit one per rollout."""
        found: dict[bytes, list[Kept]] = {}
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            self._after_fork()
            for start in range(0, len(wanted), _SELECT_AT_ONCE):
                part = wanted[start : start + _SELECT_AT_ONCE]
                marks = ",".join("?" * len(part))
                if self._connection is None:
                    break
                try:
                    rows = self._connection.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", part)  # noqa: S608
                    found.update((key, [_score(item) for item in orjson.loads(value)]) for key, value in rows)
                except (sqlite3.Error, ValueError, TypeError, KeyError) as error:  # damaged, or not a score
                    self._give_up(error)
            self.hits += sum(1 for key in keys if key in found)
        return found

    def put(self, scores: Mapping[bytes, Sequence[Kept]]) -> None:
        """Keep the results of some units."""
        rows = []
        for key, unit in scores.items():
            try:
                rows.append((key, orjson.dumps([_plain(score) for score in unit])))
            except TypeError:
                continue  # a reason with lone surrogates is not kept
        with self._lock:
            self._after_fork()
            if self._connection is None or not rows:
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file. Nothing is found or kept afterwards."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _shrink(self, connection: sqlite3.Connection) -> None:
        if self.file.stat().st_size > MAX_BYTES:
            connection.execute("DELETE FROM scores WHERE rowid < (SELECT (min(rowid) + max(rowid)) / 2 FROM scores)")
            connection.execute("VACUUM")

    def _give_up(self, error: Exception) -> None:
        logger.warning("the score cache %s can't be used, so scores are not cached: %s", self.file, error)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _check_version(connection: sqlite3.Connection) -> None:
    """Compare the file's version and columns with those of this program.

    Raises:
        sqlite3.OperationalError: A later version of rewardkit wrote the file.
        sqlite3.DatabaseError: It is not a score cache.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(scores)")]
    if version > VERSION:
        raise sqlite3.OperationalError(f"a later version of rewardkit wrote it (version {version}, known is {VERSION})")
    if version < 0 or columns not in ([], ["key", "value"]):
        raise sqlite3.DatabaseError(f"it has the columns {columns} instead of key and value")


def _plain(score: Kept) -> list[Any] | dict[str, str]:
    """Return a result as JSON data."""
    if isinstance(score, NotApplicable):
        return {"not_applicable": score.reason}
    kept: list[Any] = [
        score.value,
        score.reason,
        dict(score.metrics) if score.metrics else None,
        list(score.steps) if score.steps else None,
    ]
    return kept if score.extracted is None and score.output is None else [*kept, score.extracted, score.output]


def _score(data: Any) -> Kept:
    """Return a result from JSON data. Raises ValueError or TypeError."""
    if isinstance(data, dict):
        return NotApplicable(str(data["not_applicable"]))
    value, reason, metrics, steps, *texts = data
    extracted, output = texts or (None, None)
    if not all(text is None or isinstance(text, str) for text in (extracted, output)):
        raise TypeError("what was extracted and printed is text")
    return Score(value, reason, metrics, steps, extracted=extracted, output=output)
