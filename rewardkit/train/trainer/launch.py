"""Starts a stage: looks at what is in the output folder, quiets the libraries, and runs it."""

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
from rewardkit.train.data.rows import data_hash
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import together
from rewardkit.train.run_folder import holds_run, remove_run
from rewardkit.train.trainer.run_lock import exclusive

_MAY_CHANGE = (
    "checkpoint",
    "log",
    "evaluate",
    "threads",
    "shard",
    "micro_batch_tokens",
    "monitors",
    "reward_workers",
    "version",
)
"""Keys that may be changed between two parts of one run, since the weights don't depend on them."""


def launch(file: TrainFile, runner: Callable[[TrainFile], Path], *, fresh: bool = False) -> Path:
    """Run a stage, going on with what the output folder holds.

    Args:
        file: The configuration.
        runner: The stage's loop.
        fresh: Remove an earlier run of this folder first.

    Returns:
        The folder of the trained model.

    Raises:
        UsageError: The folder holds a run of another configuration, or another process trains into it.
        PeerError: Another of several processes has failed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet()
    PartialState()  # of several processes, makes them know each other
    with together(), exclusive(file.config.output) if collectives.is_first() else nullcontext():
        _prepare(file, fresh=fresh)
        return runner(file)


def _prepare(file: TrainFile, *, fresh: bool) -> None:
    """See to the output folder."""
    output = file.config.output
    if not collectives.is_first():
        collectives.wait()
    elif fresh and holds_run(output):
        remove_run(output)
    elif fresh and output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty and holds no run; --fresh removes runs only")
    if collectives.is_first():
        collectives.wait()
    _refuse_other_run(file)
    collectives.wait()


def _refuse_other_run(file: TrainFile) -> None:
    """A folder goes on with the configuration that it was begun with."""
    output = file.config.output
    record = output / "config.json"
    if not record.is_file():
        return
    if not holds_run(output):
        raise UsageError(f"{record} is not of a run (but of a model, as it seems); use another output folder")
    if not (output / "metrics.jsonl").is_file():
        return  # nothing has been begun
    try:
        content = orjson.loads(record.read_bytes())
        before, data = content["config"], content["data"]
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
        # A run that was moved with all that it reads is the same run.
        and _seen_from(began_in, before.get(key)) != _seen_from(now["output"], now.get(key))
    ]
    if changed:
        raise UsageError(
            f"{file.config.output} holds a run with other values of {', '.join(changed)}; use another output folder, or --fresh"
        )
    known = {_seen_from(began_in, path): digest for path, digest in data.items()}
    for path in paths(file.config.data.train):
        digest = data.get(str(path)) or known.get(_seen_from(now["output"], str(path)))
        if path.is_file() and digest is not None and data_hash([path]) != digest:
            raise UsageError(
                f"{path} has changed since the run in {file.config.output} began; use another output folder, or --fresh"
            )


def _scoring(resolved: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a reward file says, without the versions of what reads it."""
    return None if resolved is None else {key: value for key, value in resolved.items() if key != "plugins"}


def _seen_from(folder: str, value: Any) -> Any:
    """JSON data with absolute paths as they are seen from a folder."""
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
    """Silence transformers' progress bars and notices: they would break the view."""
    from transformers.utils import logging  # noqa: PLC0415 - heavy

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call,unused-ignore]
