"""Commands that make rows from rows, with the guarantees of ``rewardkit score``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardkit.errors import UsageError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.progress import make_progress
from rewardkit.scoring.retry import Retry
from rewardkit.scoring.transform import Transform, TransformOptions, TransformResult, transform_files
from rewardkit.scoring.transform_retry import retry_transform


def run_transform(
    files: Sequence[str],
    transform: Transform,
    *,
    out: Path,
    identity: Mapping[str, Any],
    maps: Sequence[str] = (),
    parse: Sequence[str] = (),
    limit: int | None = None,
    fresh: bool = False,
    retry: str | None = None,
    abort_above: float = 0.1,
    preflight: Callable[[], str | None] = lambda: None,
) -> TransformResult:
    """Make new rows from the rows of files. An interrupted job is resumed by the same call, and no row is made twice.

    Args:
        files: Paths, globs, or ``-``.
        transform: Makes the rows; closed by this function.
        out: The output. A journal beside it records what is done; ``OUT.rejected.jsonl`` lists what failed.
        identity: What decides the new rows beside the input, as JSON data: runs that differ in it are different jobs.
        maps: Renames columns, as ``--map``.
        parse: Columns whose text is JSON, as ``--parse``.
        limit: Read only so many rows.
        fresh: Discard the output of an earlier run.
        retry: Try the failed rows of a finished output again, as ``--retry``: ``unscored`` or ``unscored:KIND,…``.
        abort_above: The share of rows that may fail.
        preflight: Returns why the work can't be done, or None. Called before it starts, and not if nothing is left to do.

    Raises:
        UsageError: The output is another job's, or the work can't be done.
        DataError: The input can't be read, or lacks a column.
        OutputError: The output can't be written; what is finished is kept.
        TooManyUnscoredError: While running, more rows failed than allowed; what is finished is kept.
    """
    tries = None if retry is None else Retry.parse(retry)
    if tries is not None and (fresh or limit is not None):
        raise UsageError("--retry works on a finished output: leave out --fresh and --limit")

    def ask() -> None:
        if (problem := preflight()) is not None:
            raise UsageError(problem)

    columns = Columns.parse(maps, (), parse)
    options = TransformOptions(files, out, identity, columns, fresh, limit, abort_above, ask)
    if tries is None:
        return transform_files(options, transform, make_progress)
    return retry_transform(options, tries, transform, make_progress)
