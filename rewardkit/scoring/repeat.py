"""Scores the same rows several times and tells which scores are not repeatable.

The first scoring is the output. Each further one is a run of its own in a folder beside it, which can be resumed as any run; when
it is finished it is compared with the output and removed. What was found is kept in ``OUT.repeat.json``, so that an interrupted
command goes on with the scoring it was at, and a finished one reports again, or adds scorings if more are asked for.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError, OutputError, UsageError
from rewardkit.files import write_whole
from rewardkit.scoring.formats.decode import read_row
from rewardkit.scoring.formats.readers import STDIN, Reader, find_inputs
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.resume.journal import OutputPaths
from rewardkit.scoring.run import RunResult, ScoreOptions, score_files

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward
    from rewardkit.scoring.engines.local import RewardSpec

REASONS = ("values_differ", "scored_and_unscored", "kinds_differ", "applied_differs")
"""Why a row of a component is unstable: two values; a value and none; two kinds of failures; applied in some scorings only."""
TOTAL = "reward"
_MOST_EXAMPLES = 5
_PROMPT_LENGTH = 80
_REASON_LENGTH = 200


@dataclass
class Stability:
    """What several scorings of the same rows had in common."""

    job: dict[str, Any]
    """The job of the output, and when it was finished: what was found holds for these rows only."""
    scorings: int = 1
    rows: int = 0
    unstable: dict[tuple[int, str], int] = field(default_factory=dict)
    """By row of the output and component, a bit for each of `REASONS`."""
    spread: dict[str, float] = field(default_factory=dict)
    """By component, the largest difference of a row's values from its first."""
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def unstable_rows(self) -> int:
        """The number of rows whose reward or any component differed."""
        return len({row for row, _ in self.unstable})

    @property
    def unstable_share(self) -> float:
        """The share of rows whose reward or any component differed."""
        return self.unstable_rows / self.rows if self.rows else 0.0

    def add(self, row: int, name: str, first: Mapping[str, Any], other: Mapping[str, Any], prompt: Any) -> None:
        """Compare what one component said about a row the first time and now."""
        reason = difference(first, other)
        if reason is None:
            return
        if reason == "values_differ":
            self.spread[name] = max(self.spread.get(name, 0.0), abs(first["value"] - other["value"]))
        is_new = (row, name) not in self.unstable
        self.unstable[row, name] = self.unstable.get((row, name), 0) | 1 << REASONS.index(reason)
        if is_new and sum(each["component"] == name for each in self.examples) < _MOST_EXAMPLES:
            example = {"component": name, "row": row, "why": reason, "prompt": _short(prompt, _PROMPT_LENGTH)}
            self.examples.append(example | {"first": _said(first), "other": _said(other), "scoring": self.scorings + 1})

    def data(self) -> dict[str, Any]:
        """Return what was found as JSON data."""
        components: dict[str, dict[str, Any]] = {}
        for (_, name), bits in self.unstable.items():
            counts = components.setdefault(name, {"unstable": 0, **dict.fromkeys(REASONS, 0)})
            counts["unstable"] += 1
            for bit, reason in enumerate(REASONS):
                counts[reason] += bits >> bit & 1
        for name, counts in components.items():
            counts["largest_spread"] = self.spread.get(name)
        return {
            "scorings": self.scorings,
            "rows": self.rows,
            "unstable_rows": self.unstable_rows,
            "unstable_share": self.unstable_share,
            "components": components,
            "examples": self.examples,
        }

    def save(self, path: Path) -> None:
        """Write it to a file from which `load` goes on."""
        unstable = [[row, name, bits] for (row, name), bits in self.unstable.items()]
        state = {"job": self.job, "spread": self.spread, "report": self.data(), "unstable": unstable}
        write_whole(path, json.dumps(state).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Stability | None:
        """Read what `save` wrote; None if there is no file.

        Raises:
            OutputError: The file is damaged.
        """
        try:
            state = json.loads(path.read_bytes())
            report = state["report"]
            unstable = {(int(row), str(name)): int(bits) for row, name, bits in state["unstable"]}
            return cls(
                state["job"], report["scorings"], report["rows"], unstable, dict(state["spread"]), report["examples"]
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{path} is damaged ({type(error).__name__}: {error}); remove it, and the scorings begin again"
            ) from error


def difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the reason why two results of a component for one row differ, one of `REASONS`; None if they don't."""
    before, now = first["status"], other["status"]
    if before == now == "scored":
        return None if first["value"] == other["value"] else "values_differ"
    if before == now == "unscored":
        return None if first.get("kind") == other.get("kind") else "kinds_differ"
    if before == now:
        return None
    return "scored_and_unscored" if {before, now} == {"scored", "unscored"} else "applied_differs"


def repeat_files(
    options: ScoreOptions,
    scorings: int,
    make_reward: Callable[[], AbstractContextManager[CompositeReward]],
    *,
    spec: RewardSpec,
    progress: Callable[[int], NoProgress] = lambda _total: NoProgress(),
    told: Callable[[int], None] = lambda _number: None,
) -> tuple[RunResult, Stability]:
    """Score files several times. The output is the first scoring.

    Args:
        options: As for ``score_files``. An output that is finished counts as the first scoring, however it was made.
        scorings: How often each row is scored.
        make_reward: Makes the reward of each scoring anew, so that nothing that it remembers is used again; without a cache.
        spec: How other processes build it.
        progress: As for ``score_files``.
        told: Called with the number of each scoring before it starts.

    Raises:
        UsageError: The input can be read only once, or as for ``score_files``.
        DataError: The input has changed between two scorings, or as for ``score_files``.
        OutputError: What an earlier run found is damaged.
    """
    if any(pattern == STDIN or Path(pattern).is_fifo() for pattern in options.inputs):
        raise UsageError("--repeat reads its input several times, which standard input and pipes can't be: name a file")
    paths = OutputPaths(options.out)
    state, folder = paths.beside(".repeat.json"), paths.beside(".repeat")
    if options.fresh:
        state.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    told(1)
    with make_reward() as reward:
        result = score_files(options, reward, spec=spec, progress=progress)
    job = {name: result.manifest.get(name) for name in ("job", "finished", "rows_retried")}
    found = Stability.load(state)
    if found is None or found.job != job:
        found = Stability(job, rows=result.manifest["rows_written"])
        shutil.rmtree(folder, ignore_errors=True)
    while found.scorings < scorings:
        number = found.scorings + 1
        told(number)
        folder.mkdir(exist_ok=True)
        again = dataclasses.replace(options, out=folder / f"{number}.jsonl", fresh=False)
        with make_reward() as reward:
            manifest = score_files(again, reward, spec=spec, progress=progress).manifest
        if manifest["job"]["inputs"] != result.manifest["job"]["inputs"] or manifest["rows_written"] != found.rows:
            raise DataError(f"the input of {options.out} changed between two scorings; run again with --fresh")
        _compare(options.out, again.out, found)
        found.scorings = number
        found.save(state)
        shutil.rmtree(folder)
    if not state.exists():
        found.save(state)
    return result, found


def _compare(first: Path, other: Path, found: Stability) -> None:
    for number, (before, now) in enumerate(zip(_rows(first), _rows(other), strict=True), 1):
        prompt = before.get("prompt")
        found.add(number, TOTAL, _total(before), _total(now), prompt)
        for name, cell in before["components"].items():
            found.add(number, name, cell, now["components"][name], prompt)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for chunk in Reader(find_inputs([str(path)])).chunks():
        for raw in chunk.rows:
            yield read_row(raw)[0]


def _total(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": row["reward"], "status": row["reward_status"]}


def _said(cell: Mapping[str, Any]) -> str:
    """Return what a component said about a row, for a person."""
    status = cell["status"]
    what = f"{cell['value']:g}" if status == "scored" else f"{status} ({cell['kind']})" if cell.get("kind") else status
    reason = cell.get("reason")
    return f"{what}: {_short(reason, _REASON_LENGTH)}" if reason else what


def _short(value: Any, length: int) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)).split())
    return text if len(text) <= length else text[: length - 1] + "…"
