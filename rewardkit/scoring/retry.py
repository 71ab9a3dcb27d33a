"""Scores the unscored rows of a finished output again, and keeps all others as they are."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.errors import UsageError
from rewardkit.files import sync_folder, write_whole
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.dataset_folder import put_in_place
from rewardkit.scoring.formats.decode import group_key, read_row, write_row
from rewardkit.scoring.formats.format import FileFormat, open_part, output_format, writer_of
from rewardkit.scoring.formats.parquet import SEGMENT_ROWS, SchemaUnion
from rewardkit.scoring.formats.readers import Reader, find_inputs
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.resume.journal import OutputPaths, read_manifest, writing
from rewardkit.scoring.resume.summary_of_written import summarize_rows
from rewardkit.scoring.run import RunResult, ScoreOptions, run_result, score_files
from rewardkit.scoring.summary import Summary, added_costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from rewardkit.composite import CompositeReward
    from rewardkit.scoring.engines.local import RewardSpec

KINDS = ("infra", "timeout", "reference", "input", "plugin")
"""Why a component may be unscored."""
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Retry:
    """Which rows are scored again."""

    kinds: frozenset[str] = frozenset(KINDS)
    """A row is scored again if a component of it is unscored for one of these kinds of reasons."""

    @classmethod
    def parse(cls, text: str) -> Retry:
        """Parse ``unscored`` or ``unscored:infra,timeout``.

        Raises:
            UsageError: The text has another form, or names an unknown kind.
        """
        what, colon, names = text.partition(":")
        kinds = frozenset(name.strip() for name in names.split(",")) if colon else frozenset(KINDS)
        if what != "unscored" or not kinds <= frozenset(KINDS):
            raise UsageError(
                f"--retry {text}: write unscored, or unscored: and kinds of reasons, such as unscored:infra,timeout; "
                f"kinds are {', '.join(KINDS)}"
            )
        return cls(kinds)

    def takes(self, row: dict[str, Any]) -> bool:
        """Return whether a scored row is to be scored again."""
        cells = (row.get("components") or {}).values()
        return any(cell and cell.get("status") == "unscored" and cell.get("kind") in self.kinds for cell in cells)


def retry_rows(
    options: ScoreOptions,
    retry: Retry,
    reward: CompositeReward,
    *,
    spec: RewardSpec | None = None,
    progress: Callable[[int], NoProgress] = lambda _total: NoProgress(),
) -> RunResult:
    """Score the unscored rows of a finished output again. Until all of them are scored, the output stays as it is.

    If the reward compares the rollouts of a group, the whole group of such a row is scored again.

    Args:
        options: As for the run that wrote the output.
        retry: Which rows.
        reward: The same reward as in that run; closed by the caller.
        spec: The same reward for other processes.
        progress: As for ``score_files``.

    Raises:
        UsageError: The output is not finished, or was written with another reward.
        OutputError: The output can't be written, or another run is writing it.
    """
    paths = OutputPaths(options.out)
    ending = output_format(options.out)
    manifest = read_manifest(paths) if options.out.exists() and not paths.journal.exists() else None
    if manifest is None:
        raise UsageError(f"{options.out} is no finished output; score first without --retry")
    if manifest["job"].get("reward_id") != reward.config.reward_id:
        raise UsageError(
            f"{options.out} was written with reward {manifest['job'].get('reward_id')}, and this is "
            f"{reward.config.reward_id}; only the reward that scored the other rows can be tried again"
        )
    chosen = _chosen(options.out, retry, by_group=reward.config.needs_groups)
    if not chosen:
        return run_result(manifest, reward, options.out, already_complete=True)
    with tempfile.TemporaryDirectory(prefix="rewardkit-retry-") as name:
        rows, scored = Path(name) / f"rows.{ending}", Path(name) / f"scored.{ending}"
        _extract(options.out, rows, ending, chosen)
        inner = dataclasses.replace(options, inputs=[str(rows)], out=scored, columns=Columns(), fresh=True, limit=None)
        again = score_files(inner, reward, spec=spec, progress=progress)
        with writing(paths):
            summary = _merge(options.out, scored, paths.rewritten, ending, chosen, reward.config.component_names)
            seconds = manifest["summary"]["components"]
            summary.seconds = {name: part.get("seconds", 0.0) for name, part in seconds.items()}
            now = again.summary["components"]
            before, spent = (
                {name: part["costs"] for name, part in parts.items() if "costs" in part} for parts in (seconds, now)
            )
            summary.costs = added_costs(before, spent)
            manifest = {
                **manifest,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "rows_retried": len(chosen),
                "summary": summary.data(),
            }
            put_in_place(paths.rewritten, options.out)
            write_whole(paths.manifest, json.dumps(manifest, indent=2).encode() + b"\n")
            sync_folder(options.out.parent)
    return run_result(manifest, reward, options.out, already_complete=False)


def _scored_rows(path: Path) -> Iterator[tuple[dict[str, Any], bool, dict[str, Any]]]:
    """Yield the rows of a scored file, whether each is odd, and the columns' types."""
    for chunk in Reader(find_inputs([str(path)])).chunks():
        for raw in chunk.rows:
            row, odd = read_row(raw)
            yield row, odd, chunk.types


def _chosen(path: Path, retry: Retry, *, by_group: bool) -> set[int]:
    """Return the ordinals of the rows to score again."""
    chosen = set()
    groups = set()
    members: list[Any] = []
    for ordinal, (row, _, _) in enumerate(_scored_rows(path)):
        group = (group_key(row["prompt"]) if row.get("group") is None else row["group"]) if by_group else None
        members.append(group)
        if retry.takes(row):
            chosen.add(ordinal)
            groups.add(group)
    if by_group:
        chosen = {ordinal for ordinal, group in enumerate(members) if group in groups}
    return chosen


def _extract(path: Path, target: Path, ending: str, chosen: set[int]) -> None:
    """Write the chosen rows to a file of the same format."""
    rows = (item for index, item in enumerate(_scored_rows(path)) if index in chosen)
    _write_rows(target, ending, rows, _types(path))


def _merge(old: Path, new: Path, target: Path, ending: str, chosen: set[int], names: Sequence[str]) -> Summary:
    """Write all rows, the chosen ones as they were scored now. Returns the summary of all."""
    summary = Summary.empty(names)

    def merged() -> Iterator[tuple[dict[str, Any], bool, dict[str, Any]]]:
        again = _scored_rows(new)
        batch: list[dict[str, Any]] = []
        for ordinal, item in enumerate(_scored_rows(old)):
            item = next(again) if ordinal in chosen else item  # noqa: PLW2901 - the row that takes its place
            batch.append(item[0])
            if len(batch) >= _BATCH_ROWS:
                summary.merge(summarize_rows(batch, names))
                batch.clear()
            yield item
        if batch:
            summary.merge(summarize_rows(batch, names))

    _write_rows(target, ending, merged(), _types(old, new))
    return summary


def _types(*paths: Path) -> dict[str, Any]:
    """Return the Arrow types of the columns of scored files, which hold the values of all of them."""
    found = [types for path in paths for _, _, types in itertools.islice(_scored_rows(path), 1) if types]
    if not found:
        return {}
    import pyarrow as pa

    union = SchemaUnion()
    for types in found:
        union.add(pa.schema(list(types.items())), "the rows scored now")
    return {} if union.schema is None else {column.name: column.type for column in union.schema}


def _write_rows(
    target: Path, ending: str, rows: Iterator[tuple[dict[str, Any], bool, dict[str, Any]]], types: dict[str, Any]
) -> None:
    known, _ = writer_of(ending)
    part_path = target.with_name(target.name + ".part")
    part_path.write_bytes(b"")
    part = open_part(part_path, ending, [])
    ends: list[int] = []
    waiting = 0
    batch: list[tuple[dict[str, Any], bool, dict[str, Any]]] = []
    for item in rows:
        batch.append(item)
        if len(batch) >= _BATCH_ROWS:
            part.write(_payload(known, batch, types), "the rows scored before")
            waiting += len(batch)
            batch = []
        if waiting >= SEGMENT_ROWS:
            ends.append(part.commit())
            waiting = 0
    if batch:
        part.write(_payload(known, batch, types), "the rows scored before")
    ends.append(part.commit())
    finished = part.finish(ends, target)
    if finished != target:
        finished.replace(target)
    else:
        part_path.unlink()


def _payload(
    known: FileFormat, batch: Sequence[tuple[dict[str, Any], bool, dict[str, Any]]], types: dict[str, Any]
) -> Any:
    if known.payload == "lines":
        return [write_row(row, odd=odd) for row, odd, _ in batch]
    import pyarrow as pa

    from rewardkit.scoring.formats.encode import arrow_column

    columns = {name: arrow_column(name, [row.get(name) for row, _, _ in batch], kind) for name, kind in types.items()}
    return pa.RecordBatch.from_pydict(columns)
