"""Starts a training stage: checks the output folder, silences the libraries, and runs the stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
from accelerate import PartialState

from rewardkit.errors import OutputError, UsageError
from rewardkit.train.config import paths, plain
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import data_hashes
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import propagate_failures
from rewardkit.train.run_folder import holds_run, remove_run
from rewardkit.train.trainer.run_lock import exclusive

_MAY_CHANGE = (
    "checkpoint",
    "log",
    "evaluate",
    "threads",
    "fsdp",
    "micro_batch_tokens",
    "monitors",
    "reward_workers",
    "version",
)
"""Keys that may change when a run is resumed, because the weights do not depend on them."""


def launch(file: TrainFile, runner: Callable[[TrainFile], Path], *, fresh: bool = False) -> Path:
    """Run a stage. If the output folder contains an earlier run, it is resumed.

    Args:
        file: The configuration.
        runner: The stage's function.
        fresh: Whether to remove an earlier run from the output folder first.

    Returns:
        The folder of the trained model.

    Raises:
        UsageError: The folder contains a run of another configuration, or another process trains into it.
        PeerError: Another process of the run failed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet()
    PartialState()  # connects the processes of the run
    with propagate_failures(), exclusive(file.config.output) if collectives.is_main_process() else nullcontext():
        _prepare(file, fresh=fresh)
        return runner(file)


def _prepare(file: TrainFile, *, fresh: bool) -> None:
    """Prepare the output folder."""
    output = file.config.output
    if not collectives.is_main_process():
        collectives.barrier()
    elif fresh and holds_run(output):
        remove_run(output)
    elif fresh and output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty and does not contain a run; --fresh only removes runs")
    if collectives.is_main_process():
        collectives.barrier()
    _refuse_other_run(file)
    collectives.barrier()


def _refuse_other_run(file: TrainFile) -> None:
    """Raise UsageError if the output folder contains a run of another configuration."""
    output = file.config.output
    record = output / "config.json"
    if not record.is_file():
        return
    if not holds_run(output):
        raise UsageError(
            f"{record} does not belong to a training run, but probably to a model; use another output folder"
        )
    if not (output / "metrics.jsonl").is_file():
        return  # no step has been done
    try:
        content = orjson.loads(record.read_bytes())
        before, data = content["config"], content["data"]["train"]
        began_in = before["output"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{record} can't be read ({error}); use another output folder, or --fresh") from None
    now = dict(plain(file.config))
    if file.reward is not None:
        before["reward"] = _scoring(content.get("reward"))
        now["reward"] = _scoring(orjson.loads(orjson.dumps(file.reward.resolved)))
    changed = [
        key
        for key in sorted({*before, *now})
        if key not in _MAY_CHANGE
        and before.get(key) != now.get(key)
        # A run that was moved together with its data is the same run.
        and _seen_from(began_in, before.get(key)) != _seen_from(now["output"], now.get(key))
    ]
    if changed:
        raise UsageError(
            f"{file.config.output} contains a run with other values of {', '.join(changed)}; use another output folder, or --fresh"
        )
    _refuse_changed_data(file, began_in, data)


def _refuse_changed_data(file: TrainFile, began_in: str, before: Mapping[str, str]) -> None:
    """Raise UsageError if the training data are not those of the earlier run.

    Args:
        file: The configuration.
        began_in: The output folder of the earlier run.
        before: The hash of each file of the earlier run.
    """
    output = str(file.config.output)
    now = data_hashes(paths(file.config.data.train))
    # A run that was moved together with its data is the same run.
    moved_from = {_seen_from(began_in, path): digest for path, digest in before.items()}
    moved_to = {_seen_from(output, path) for path in now}
    problems = [
        f"{path} is no longer part of data.train"
        for path in before
        if path not in now and _seen_from(began_in, path) not in moved_to
    ]
    for path, digest in now.items():
        known = before.get(path) or moved_from.get(_seen_from(output, path))
        if known is None:
            problems.append(f"{path} was added to data.train")
        elif known != digest:
            problems.append(f"{path} has changed")
    if problems:
        raise UsageError(f"{problems[0]} since the run in {output} began; use another output folder, or --fresh")


def _scoring(resolved: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a reward file's content without the versions of plugins."""
    return None if resolved is None else {key: value for key, value in resolved.items() if key != "plugins"}


def _seen_from(folder: str, value: Any) -> Any:
    """Return JSON data with absolute paths made relative to a folder."""
    match value:
        case str():
            return os.path.relpath(value, folder) if Path(value).is_absolute() else value
        case dict():
            return {key: _seen_from(folder, item) for key, item in value.items()}
        case list():
            return [_seen_from(folder, item) for item in value]
        case _:
            return value


def quiet() -> None:
    """Silence the progress bars and warnings of transformers, which would break the console."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call,unused-ignore]
