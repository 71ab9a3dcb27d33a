"""Files of JSON rows: scored files of rewardkit, and those of other systems, recognised by the keys of the first row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rewardkit.errors import DataError
from rewardkit.view.adapters import inspect_logs, nemo_gym, verifiers_traces
from rewardkit.view.adapters.lines import Rows, first_object, json_document, json_lines


def _is_scored(row: Mapping[str, Any]) -> bool:
    return {"prompt", "completion", "reward"} <= row.keys()


def _is_verl_dump(row: Mapping[str, Any]) -> bool:
    return {"input", "output", "score"} <= row.keys()


def _from_verl_dump(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    new = dict(row)
    yield {
        "prompt": new.pop("input"),
        "completion": new.pop("output"),
        "reward": new.pop("score"),
        "answer": new.pop("gts", None),
        **new,
    }


def _unchanged(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield dict(row)


Convert = Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
KINDS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], Convert], ...] = (
    ("traces of verifiers", verifiers_traces.is_episode, verifiers_traces.from_episode),
    ("results of verifiers", verifiers_traces.is_result, verifiers_traces.from_result),
    ("rollouts of NeMo-Gym", nemo_gym.is_rollout, nemo_gym.from_rollout),
    ("scored file", _is_scored, _unchanged),
    ("rollouts of verl", _is_verl_dump, _from_verl_dump),
)
"""What a row is called, how it is recognised, and how scored rows are made of it; the first that fits counts."""


def kind_of(path: Path) -> str:
    """Return the kind of a file of JSON.

    Raises:
        DataError: It can't be read or shown.
    """
    if path.suffix == ".json" and inspect_logs.is_log(document := json_document(path)):
        del document
        return "logs of Inspect"
    row = first_object(path)
    for name, fits, _ in KINDS:
        if row is not None and fits(row):
            return name
    found = f"has the keys {', '.join(list(row)[:20])}" if row else "has no rows"
    raise DataError(
        f"{path} {found}: prompt, completion and reward are needed; score the file first with `rewardkit score`"
    )


def rows(path: Path, at: int = 0) -> Rows:
    """Yield the rows of a file as scored rows.

    Raises:
        DataError: The file can't be read, or a row is of another kind than the first.
    """
    convert: Convert | None = None
    for number, (row, end) in enumerate(json_lines(path, at), 1):
        if convert is None:
            convert = next((found for _, fits, found in KINDS if fits(row)), None)
        if convert is None:
            raise DataError(
                f"{path}, row {number}: it has the keys {', '.join(list(row)[:20])}, not those of the first row"
            )
        for scored in convert(row):
            yield scored, end
