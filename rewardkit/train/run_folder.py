"""The files of a training run: their names, and how they are read back."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rewardkit.errors import DataError

FINAL, BEST = "final", "best"
"""Folders of the trained model: the one after the last step, and the one with the best evaluation."""

TOKENS = "tokens"
"""The folder of the rendered rows, which all processes map into memory."""

RUN_FILES = (
    *("config.json", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "report.html"),
    *("evaluation.json", "reliability.svg"),
    *("checkpoints", "best", "final", TOKENS, "tensorboard", "wandb"),
)
"""Everything that a run writes into its folder."""

RENAMED_METRICS = {
    "zero_spread": "frac_reward_zero_std",
    "mismatch": "sampling_logp_difference",
    "mismatch_max": "sampling_logp_difference_max",
    "mismatch_kl": "sampling_kl",
    "mismatch_ess": "sampling_ess",
    "canary": "weight_sync_difference",
    "canary_max": "weight_sync_difference_max",
    "seconds_learn": "seconds_update",
}
"""Former names of metrics."""

_NO_STEP = 1 << 62


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a line of ``metrics.jsonl``. A null stands for a value that was not finite."""
    return {
        name: math.nan if value is None else value for name, value in record.items() if name not in {"step", "kind"}
    }


def step_of_line(line: bytes) -> int:
    """Return the step of a line, or a very large number if the line was cut off when the process was killed."""
    try:
        return int(orjson.loads(line)["step"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return _NO_STEP


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run, rather than a model or anything else with a ``config.json``."""
    try:
        record = orjson.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, orjson.JSONDecodeError):
        return (folder / "metrics.jsonl").is_file()  # config.json is damaged; only runs have metrics.jsonl
    return isinstance(record, dict) and {"config", "versions", "data"} <= record.keys()


def remove_run(folder: Path) -> None:
    """Remove everything that a run has written into a folder, and nothing else."""
    for name in RUN_FILES:
        for path in (folder / name, *folder.glob(f".{name}.*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def read_json(file: Path) -> Any:
    """Return the content of a JSON file, or None if there is no such file.

    Raises:
        DataError: The file is not JSON.
    """
    if not file.is_file():
        return None
    try:
        return orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{file} can't be read: {error}") from None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON Lines file, without a last line that was cut off. A missing file has no records.

    Raises:
        DataError: A line is not JSON.
    """
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            records.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise DataError(f"{file}:{number}: can't be read: {error}") from None
    return records


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run's ``metrics.jsonl``.

    Raises:
        DataError: A line can't be read, or uses a former name of a metric.
    """
    file = folder / "metrics.jsonl"
    records = read_lines(file)
    for number, record in enumerate(records, 1):
        for name in record:
            *parts, last = name.split("/")
            if last in RENAMED_METRICS and (not parts or name.startswith("component/")) and len(parts) != 1:
                new = "/".join([*parts, RENAMED_METRICS[last]])
                raise DataError(f"{file}:{number}: the metric {name!r} is now called {new!r}; rename it in the file")
    return records
