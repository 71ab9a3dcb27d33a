"""The files of a run: names, append, read back, cut back to a step."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rewardkit.errors import DataError

FINAL, BEST = "final", "best"


def _figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What was logged, without where it belongs; what was not finite is null in the file."""
    return {
        name: math.nan if value is None else value for name, value in record.items() if name not in {"step", "kind"}
    }


def _step_of(line: bytes) -> int:
    try:
        return int(orjson.loads(line)["step"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 1 << 62  # half a line, written while the process was killed


WRITTEN = (
    *("config.json", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "report.html"),
    *("evaluation.json", "reliability.svg"),
    *("checkpoints", "best", "final", "tensorboard", "wandb"),
)
"""What a run writes into its folder."""


def _holds_run(folder: Path) -> bool:
    """Whether there is a run, and not a model or anything else that has a config.json."""
    try:
        record = orjson.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, orjson.JSONDecodeError):
        return (folder / "metrics.jsonl").is_file()  # the record was cut off; other folders have no such figures
    return isinstance(record, dict) and {"config", "versions", "data"} <= record.keys()


def _remove_run(folder: Path) -> None:
    """Remove what a run has written, and nothing else that is there."""
    for name in WRITTEN:
        for path in (folder / name, *folder.glob(f".{name}.*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _lines(file: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """Records of a file of lines, or its one record; none where there is no file. A last line that is half written is left out."""
    if not file.is_file():
        return []
    data = file.read_bytes()
    lines = [data] if whole else data.splitlines(keepends=True)
    try:
        return [orjson.loads(line) for line in lines if whole or line.endswith(b"\n")]
    except orjson.JSONDecodeError as error:
        raise DataError(f"{file} can't be read: {error}") from None
