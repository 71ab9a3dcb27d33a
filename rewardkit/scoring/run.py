"""Scores files: reads rows, scores them in chunks, and writes them so that an interrupted run can be resumed."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rewardkit.errors import UsageError
from rewardkit.scoring.column_check import check_columns
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.engines.chunk_scorer import ChunkScorer, ScoredChunk, Task, rare_garbage_collection
from rewardkit.scoring.engines.local import RewardSpec, in_processes, in_threads, inline, inline_then_processes
from rewardkit.scoring.formats.format import output_format
from rewardkit.scoring.formats.readers import Chunk, Reader, find_inputs
from rewardkit.scoring.groups import GroupPlan, gather, plan_groups
from rewardkit.scoring.output import Job, Output, finished_manifest, protected_paths
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.resume.journal import OutputPaths, read_manifest, reading_part, writing
from rewardkit.scoring.resume.summary_of_written import summarize_part
from rewardkit.scoring.summary import Summary, added_costs
from rewardkit.scoring.writing import UnscoredLimit, stop_on_signal, write_chunks

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward

MIN_BYTES_FOR_PROCESSES = 64 << 20
"""Smaller input gets worker processes only if its rewards are slow: most of it is scored before they have started."""
_CHUNK_ROWS = 2048
_CHUNK_ROWS_ELSEWHERE = 128
"""Rows in a chunk whose rewards run in workers: few, so that little is lost when a run ends early."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What to score and how."""

    inputs: Sequence[str]
    """Paths, globs, or ``-``."""
    out: Path
    columns: Columns = field(default_factory=Columns)
    engine: Literal["local", "ray"] = "local"
    processes: int = 1
    """The number of processes, this one included, for rewards that only compute."""
    fresh: bool = False
    """Discard the output of an earlier run."""
    limit: int | None = None
    """Score only this many rows; None scores all."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    manifest: dict[str, Any]
    already_complete: bool = False
    too_many_unscored: str = ""
    """Why the run failed although all rows are written: too many could not be read or scored. Empty if it succeeded."""

    @property
    def summary(self) -> dict[str, Any]:
        """The run's statistics, as ``Summary.data`` returns them."""
        summary: dict[str, Any] = self.manifest["summary"]
        return summary


def score_files(
    options: ScoreOptions,
    reward: CompositeReward,
    *,
    spec: RewardSpec | None = None,
    progress: Callable[[int], NoProgress] = lambda _total: NoProgress(),
) -> RunResult:
    """Score files into a file. An interrupted run is resumed.

    Args:
        options: What to score, and how.
        reward: The reward; closed by the caller.
        spec: How other processes build the same reward; without it, all rows are scored in this process.
        progress: Creates the progress display, given the bytes to read.

    Raises:
        DataError: The input can't be read, or lacks what the reward needs.
        UsageError: The output holds another job's rows.
        OutputError: The output can't be written; what is finished is kept.
        TooManyUnscoredError: While running, more could not be scored than the reward file allows; what is finished is kept.
        InterruptedRunError: Ctrl-C or SIGTERM; what is finished is kept.
    """
    kind = output_format(options.out)
    paths = OutputPaths(options.out)
    with writing(paths):
        paths.out.parent.mkdir(parents=True, exist_ok=True)
    inputs = find_inputs(options.inputs, leave_out=protected_paths(options.out))
    target = options.out.resolve()
    if any(target in {item.path.resolve(), item.path.resolve().parent} for item in inputs):
        raise UsageError(f"{options.out} is both input and output; give another --out")
    identity = {
        "reward_id": reward.config.reward_id,
        "step": reward.step,
        "inputs": [item.identity() for item in inputs],
        **options.columns.identity(),
        "limit": options.limit,
    }
    job = Job(identity, kind)
    if (manifest := finished_manifest(paths, job, fresh=options.fresh)) is not None:
        return run_result(manifest, reward, options.out, already_complete=True)
    elsewhere = not reward.is_inline
    reader = Reader(inputs, max_rows=_CHUNK_ROWS_ELSEWHERE if elsewhere else _CHUNK_ROWS, limit=options.limit)
    check_columns(reader, options.columns, reward.config)
    reward.preflight()
    plan = plan_groups(reader, options.columns) if reward.config.needs_groups else None
    if plan is not None and plan.interleaved:
        job = Job(identity, kind, order="groups")
    output = Output.open(paths, job, fresh=options.fresh)
    try:
        manifest = _run(options, reward, spec, progress, reader, plan, output, job)
        output.finish(manifest)
    finally:
        output.close()
    return run_result(manifest, reward, options.out, already_complete=False)


def _run(
    options: ScoreOptions,
    reward: CompositeReward,
    spec: RewardSpec | None,
    progress: Callable[[int], NoProgress],
    reader: Reader,
    plan: GroupPlan | None,
    output: Output,
    job: Job,
) -> dict[str, Any]:
    """Write all missing rows and return the manifest."""
    if output.part is None and (manifest := read_manifest(output.paths)) is not None:
        return manifest
    task = Task(options.columns, job.format, keep_ordinals=job.order == "groups")
    done = output.now.consumed
    with reading_part(output.paths):
        summary = summarize_part(
            output.paths.part, job.format, job.order, output.journal.ends, reward.config.component_names
        )
    summary.seconds = dict(output.now.seconds or {})
    summary.costs = added_costs({}, output.now.costs or {})
    if not output.journal.complete:
        chunks = reader.chunks(done) if plan is None else gather(reader, options.columns, plan, done)
        before = added_costs({}, output.now.costs or {})
        try:
            with stop_on_signal() as asked, rare_garbage_collection(), progress(reader.total_bytes) as shown:
                scored_chunks = _score_chunks(options, reward, spec, task, reader, chunks, asked)
                write_chunks(scored_chunks, output, summary, limit_of(reward), asked, shown)
        except BaseException:
            output.record_costs(added_costs(before, reward.costs))
            raise
        reader.check_unchanged()
    return _manifest(job, reward, output, summary)


def _score_chunks(
    options: ScoreOptions,
    reward: CompositeReward,
    spec: RewardSpec | None,
    task: Task,
    reader: Reader,
    chunks: Iterator[Chunk],
    asked: Callable[[], bool],
) -> Iterator[ScoredChunk]:
    if options.engine == "ray":
        from rewardkit.scoring.engines.ray import on_ray

        if spec is None:
            raise UsageError("--engine ray needs a reward that is read from a file")
        return on_ray(spec, task, chunks)
    if not reward.is_inline:
        return in_threads(ChunkScorer(reward, task), chunks, asked)
    scorer = ChunkScorer(reward, task)
    if spec is None or options.processes == 1:
        return inline(scorer, chunks, reader)
    if reader.total_bytes >= MIN_BYTES_FOR_PROCESSES:
        return in_processes(spec, task, options.processes, scorer, chunks, asked)
    return inline_then_processes(spec, task, options.processes, scorer, chunks, reader, asked)


def run_result(manifest: dict[str, Any], reward: CompositeReward, out: Path, *, already_complete: bool) -> RunResult:
    """Return how a run ended, judged by its manifest."""
    summary = manifest["summary"]
    reasons = Counter(summary["unscored_reasons"])
    told = _too_many_rejected(manifest["rows_rejected"], manifest["rows_read"], reward, out) or limit_of(
        reward
    ).exceeded(summary["reward"]["unscored"], summary["rows"], reasons, f"all rows are in {out}")
    if not told and not summary["reward"]["n"]:
        frequent = "".join(f"\n  {times:,} × {reason}" for reason, times in reasons.most_common(5))
        told = f"no row got a reward: all {summary['rows']:,} are unscored. Most frequent reasons:{frequent}"
    return RunResult(manifest, already_complete, told)


def limit_of(reward: CompositeReward) -> UnscoredLimit:
    """Return the limit that a reward file sets."""
    return UnscoredLimit(reward.config.abort_above, f"{reward.config.file} allows", "(unscored: abort_above)")


def _too_many_rejected(rejected: int, read: int, reward: CompositeReward, out: Path) -> str:
    """Return why too few rows could be read; empty if enough could."""
    if not rejected or (rejected < read and rejected / read <= reward.config.abort_above):
        return ""
    with contextlib.suppress(OSError, ValueError, LookupError), OutputPaths(out).rejected.open("rb") as file:
        first = json.loads(file.readline())
        return (
            f"{rejected:,} of {read:,} rows could not be read; {OutputPaths(out).rejected} lists them. "
            f"The first is {first['file']}:{first['row']}: {first['reason']}"
        )
    return f"{rejected:,} of {read:,} rows could not be read; {OutputPaths(out).rejected} lists them"


def _manifest(job: Job, reward: CompositeReward, output: Output, summary: Summary) -> dict[str, Any]:
    now = output.now
    return {
        "job": job.data(),
        "reward": dict(reward.config.resolved),
        "reward_file": reward.config.file,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows_read": now.consumed,
        "rows_written": now.rows,
        "rows_rejected": now.rejected,
        "text_replaced_rows": now.replaced,
        "emptied_columns": list(now.emptied),
        "summary": summary.data(),
    }
