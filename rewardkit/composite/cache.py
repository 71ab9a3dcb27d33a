"""Scores kept by content: plugin and version, parameters, and the row, or what of it the reward says that it looks at.

Re-weighting then runs no plugin again, and equal rows of one batch are scored once.

A SQLite file that any number of runs may share. It holds scores only, never ``Unscored``; and a cache that fails is left aside with a
warning, since it must not stop a run.
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
from typing import Any

import orjson

from rewardkit.config.params import plain_params
from rewardkit.config.spec import Component
from rewardkit.types import Rollout, Score

logger = logging.getLogger(__name__)

MAX_BYTES = 4 * 1024**3
"""Above this size the older half is dropped when the file is opened."""
_SELECT_AT_ONCE = 500


def default_folder() -> Path:
    """``$REWARDKIT_CACHE_DIR``, or ``rewardkit`` in the user's cache folder."""
    if folder := os.environ.get("REWARDKIT_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rewardkit"


def component_key(component: Component) -> bytes | None:
    """What of a component decides its scores: neither its weight nor its name, conditions or clips.

    None where the reward can't tell what it depends on.
    """
    offer = component.offer
    own = None
    if offer.type.identity is not None:
        own = offer.type.identity(component.params)
        if own is None:
            return None
    identity = [
        offer.provenance.distribution,
        offer.provenance.version,
        offer.type.name,
        plain_params(component.params),
        own,
    ]
    return hashlib.blake2b(
        json.dumps(identity, sort_keys=True).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def unit_key(
    component: bytes, rollouts: Sequence[Rollout], looks_at: Callable[[Rollout], Any] | None = None
) -> bytes | None:
    """The key of what is scored at once: one rollout, or the rollouts of one group in their order.

    Args:
        component: What ``component_key`` gave.
        rollouts: What is scored at once.
        looks_at: What of a rollout decides its score; None: all of it.

    Returns:
        None where a row holds what has no exact text (an array, an object): it is not kept then.
    """
    digest = hashlib.blake2b(component, digest_size=16)
    for rollout in rollouts:
        if looks_at is not None:
            try:
                digest.update(_exact([looks_at(rollout)]))
            # The boundary: it is a plugin's, and a row may hold anything; scoring will tell what is wrong with it.
            except Exception:  # noqa: BLE001
                return None
            digest.update(b"\0")
            continue
        content = [rollout.prompt, rollout.completion, dict(rollout.fields)]
        # Apart from the rest, since they are None more often than not.
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
    """JSON that differs where the content does."""
    try:
        text = orjson.dumps(content, default=_plain_value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # lone surrogates and integers beyond 64 bits; or what no JSON can say
        text = b"null"
    if b"null" not in text:
        return text
    # orjson writes nan and the infinities as null, as it does None.
    return json.dumps(content, default=_plain_value, sort_keys=True).encode()


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Decimal | dt.date | dt.time):
        return {type(value).__name__: str(value)}
    raise TypeError(f"a {type(value).__name__} has no exact text")


class ScoreCache:
    """Scores by key. Safe to use from several threads and processes at once. If its file can't be used it is empty."""

    def __init__(self, folder: Path | None = None) -> None:
        self.file = (folder or default_folder()) / "scores.sqlite"
        self.hits = 0
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.file, timeout=30, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB UNIQUE, value BLOB)")
            self._shrink(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, list[Score]]:
        """The scores that are known, by key; each entry has as many as its unit has rollouts."""
        found: dict[bytes, list[Score]] = {}
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            for start in range(0, len(wanted), _SELECT_AT_ONCE):
                part = wanted[start : start + _SELECT_AT_ONCE]
                marks = ",".join("?" * len(part))
                if self._connection is None:
                    break
                try:
                    rows = self._connection.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", part)  # noqa: S608
                    found.update((key, [_score(item) for item in orjson.loads(value)]) for key, value in rows)
                except (sqlite3.Error, ValueError, TypeError) as error:  # damaged, or what stands there is no score
                    self._give_up(error)
            self.hits += sum(1 for key in keys if key in found)
        return found

    def put(self, scores: Mapping[bytes, Sequence[Score]]) -> None:
        """Keep the scores of some units."""
        rows = []
        for key, unit in scores.items():
            try:
                rows.append((key, orjson.dumps([_plain(score) for score in unit])))
            except TypeError:
                continue  # a reason with lone surrogates: not worth keeping
        with self._lock:
            if self._connection is None or not rows:
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file. Nothing is kept or found from then on."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _shrink(self, connection: sqlite3.Connection) -> None:
        if self.file.stat().st_size > MAX_BYTES:
            connection.execute("DELETE FROM scores WHERE rowid < (SELECT (min(rowid) + max(rowid)) / 2 FROM scores)")
            connection.execute("VACUUM")

    def _give_up(self, error: Exception) -> None:
        logger.warning("the score cache %s can't be used and is left aside: %s", self.file, error)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _plain(score: Score) -> list[Any]:
    return [
        score.value,
        score.reason,
        dict(score.metrics) if score.metrics else None,
        list(score.steps) if score.steps else None,
    ]


def _score(data: list[Any]) -> Score:
    return Score(*data)
