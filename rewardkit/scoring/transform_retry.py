"""Tries the rows again for which a job of ``transform`` has no result, and adds what comes of them to its output."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rewardkit.errors import UsageError
from rewardkit.files import sync_folder, write_whole
from rewardkit.scoring.formats.dataset_folder import put_in_place
from rewardkit.scoring.formats.decode import read_row, write_row
from rewardkit.scoring.formats.format import open_part, output_format, writer_of
from rewardkit.scoring.formats.parquet import SEGMENT_ROWS
from rewardkit.scoring.formats.readers import Reader, find_inputs
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.resume.journal import OutputPaths, read_manifest, writing
from rewardkit.scoring.retry import Retry
from rewardkit.scoring.summary import added_costs
from rewardkit.scoring.transform import (
    SOURCE,
    Row,
    Transform,
    TransformOptions,
    TransformResult,
    rejected_entries,
    result_of,
    table,
    transform_files,
)

_BATCH_ROWS = 1024


def retry_transform(
    options: TransformOptions,
    retry: Retry,
    transform: Transform,
    progress: Callable[[int], NoProgress] = lambda _total: NoProgress(),
) -> TransformResult:
    """Try the failed rows of a finished job again. New rows come after those that are there. Until all are done, the output stays as it is.

    Args:
        options: As for the job that wrote the output.
        retry: The kinds of failures to try again.
        transform: The same transform as in that job; closed by this function.
        progress: As for ``transform_files``.

    Raises:
        UsageError: The output is not finished, or another job's.
        OutputError: The output can't be written.
    """
    paths = OutputPaths(options.out)
    manifest = read_manifest(paths) if options.out.exists() and not paths.journal.exists() else None
    if manifest is None:
        raise UsageError(f"{options.out} is no finished output; run without --retry first")
    wanted = json.loads(json.dumps(dict(options.identity)))
    if any(manifest["job"].get(name) != value for name, value in wanted.items()):
        raise UsageError(f"{options.out} was written with other settings; repeat those of the first run with --retry")
    entries = list(rejected_entries(paths.rejected))
    # Killed after the output was replaced: what is in it is not tried again.
    known = {row.get(SOURCE) for row in _rows(options.out)} if entries else set()
    groups = _groups(entries)
    waiting = [entry for group in groups for entry in group if _takes(retry, group) and not _is_known(group, known)]
    if not waiting:
        return result_of(manifest, options, already_complete=True)
    kept = [entry for group in groups for entry in group if not _takes(retry, group)]
    with tempfile.TemporaryDirectory(prefix="rewardkit-retry-") as name:
        source, made = Path(name) / "rows.jsonl", Path(name) / f"made.{output_format(options.out)}"
        source.write_text("".join(entry["raw"] + "\n" for entry in waiting), encoding="utf-8", errors="surrogatepass")
        inner = dataclasses.replace(options, inputs=[str(source)], out=made, fresh=True, limit=None)
        now = transform_files(inner, transform, progress).manifest
        failed = [
            {**waiting[entry["row"] - 1], "reason": entry["reason"], "kind": entry.get("kind", "")}
            for entry in rejected_entries(OutputPaths(made).rejected)
        ]
        with writing(paths):
            _append(options.out, made, paths.rewritten, output_format(options.out), waiting)
            put_in_place(paths.rewritten, options.out)
            _write_entries(paths.rejected, [*kept, *failed])
            manifest = _merged(manifest, now, len(waiting), [*kept, *failed])
            write_whole(paths.manifest, json.dumps(manifest, indent=2).encode() + b"\n")
            sync_folder(options.out.parent)
    return result_of(manifest, options, already_complete=False)


def _groups(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return entries by the unit that failed: rows of one group follow each other and have one reason."""
    groups: list[list[dict[str, Any]]] = []
    for entry in entries:
        unit = entry.get("unit")
        if groups and unit is not None and groups[-1][0].get("unit") == unit:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _takes(retry: Retry, group: Sequence[dict[str, Any]]) -> bool:
    return group[0].get("kind") in retry.kinds


def _is_known(group: Sequence[dict[str, Any]], known: set[Any]) -> bool:
    return f"{group[0]['file']}:{group[0]['row']}" in known


def _rows(path: Path) -> Iterator[Row]:
    for chunk in Reader(find_inputs([str(path)])).chunks():
        for raw in chunk.rows:
            yield read_row(raw)[0]


def _append(old: Path, new: Path, target: Path, ending: str, waiting: Sequence[dict[str, Any]]) -> None:
    """Write the rows of both files. New rows name the places of the original input."""

    def renamed() -> Iterator[Row]:
        for row in _rows(new) if new.stat().st_size else ():
            entry = waiting[int(str(row[SOURCE]).rpartition(":")[2]) - 1]
            yield {**row, SOURCE: f"{entry['file']}:{entry['row']}"}

    known, _ = writer_of(ending)
    part_path = target.with_name(target.name + ".part")
    part_path.write_bytes(b"")
    part = open_part(part_path, ending, [])
    ends: list[int] = []
    uncommitted = 0
    batch: list[Row] = []

    def flush() -> None:
        nonlocal batch
        payload: Any = table(batch) if known.payload == "table" else [write_row(row) for row in batch]
        part.write(payload, "the rows of the first run")
        batch = []

    for rows in (_rows(old) if old.stat().st_size else iter(()), renamed()):
        for row in rows:
            batch.append(row)
            uncommitted += 1
            if len(batch) >= _BATCH_ROWS:
                flush()
            if uncommitted >= SEGMENT_ROWS:
                ends.append(part.commit())
                uncommitted = 0
    if batch:
        flush()
    ends.append(part.commit())
    finished = part.finish(ends, target)
    if finished != target:
        finished.replace(target)
    else:
        part_path.unlink()


def _write_entries(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    if entries:
        write_whole(path, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
    else:
        path.unlink(missing_ok=True)


def _merged(
    before: dict[str, Any], now: dict[str, Any], retried: int, rejected: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the manifest of both jobs together."""
    old, new = before["summary"], now["summary"]
    name = next(iter(new["components"]))
    earlier, spent = ({name: part["components"][name].get("costs", {})} for part in (old, new))
    reasons: dict[str, int] = {}
    kinds: dict[str, int] = {}
    for entry in rejected:
        if kind := entry.get("kind"):
            told = f"{name} ({kind}): {entry['reason']}"
            reasons[told] = reasons.get(told, 0) + 1
            kinds[kind] = kinds.get(kind, 0) + 1
    written = before["rows_written"] + now["rows_written"]
    part = {**old["components"][name], "unscored": kinds, "costs": added_costs(earlier, spent)[name]}
    return {
        **before,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows_written": written,
        "rows_rejected": len(rejected),
        "rows_retried": retried,
        "summary": {
            **old,
            "reward": {**old["reward"], "n": written, "unscored": sum(kinds.values())},
            "components": {**old["components"], name: part},
            "unscored_reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])[:10]),
        },
    }
