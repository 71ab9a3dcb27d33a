"""Checks whether a configuration may resume the run in its output folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rewardkit.errors import OutputError, UsageError
from rewardkit.train.config import RlConfig, paths, plain
from rewardkit.train.config.algorithms import resolve_algorithm
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import data_hashes
from rewardkit.train.run_folder import FINAL, holds_run

_MAY_CHANGE = (
    "checkpoint",
    "log",
    "evaluate",
    "threads",
    "fsdp",
    "micro_batch_tokens",
    "packing",
    "collective_timeout",
    "monitors",
    "reward_workers",
    "version",
)
"""Keys that may change when a run is resumed, because the weights do not depend on them."""
_PARTS_MAY_CHANGE = {
    "optimizer": ("non_finite", "offload"),
    "kl": ("offload_reference",),
    "model": ("logprob_memory_mb", "logprob_kernel"),
}
"""Keys of sections that may change: a run that stopped at a gradient that is not finite can skip it, and memory can be saved."""
_LENGTH = ("steps", "epochs")
"""Keys that may change if the finished steps do not depend on the number of all steps."""


def refuse_other_run(file: TrainFile) -> None:
    """Check that the output folder contains no run, or one that this configuration may resume.

    Raises:
        UsageError: The folder contains a run with other settings, another reward or other data, or a model.
        OutputError: The record of the earlier run can't be read.
    """
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
    for settings in (before, now):
        for section, keys in _PARTS_MAY_CHANGE.items():
            if section in settings:
                settings[section] = {key: value for key, value in settings[section].items() if key not in keys}
    changed = [
        key
        for key in sorted({*before, *now})
        if key not in _MAY_CHANGE
        and before.get(key) != now.get(key)
        # A run that was moved together with its data is the same run.
        and _seen_from(began_in, before.get(key)) != _seen_from(now["output"], now.get(key))
    ]
    if other := [key for key in changed if key not in _LENGTH]:
        raise UsageError(
            f"{output} contains a run with other values of {', '.join(other)}; use another output folder, or --fresh"
        )
    if changed:
        _refuse_other_schedule(file, changed[0], content.get("total_steps"))
    _refuse_changed_data(file, began_in, data)
    _refuse_changed_loss(file, content.get("loss"))


def _refuse_other_schedule(file: TrainFile, key: str, steps_before: int | None) -> None:
    """Raise UsageError if a run of another length would have done its finished steps differently.

    Args:
        file: The configuration.
        key: The key that sets the length.
        steps_before: The number of steps that the earlier run was to have.
    """
    config = file.config
    if config.optimizer.schedule != "constant":
        raise UsageError(
            f"{key} has changed since the run in {config.output} began, and with optimizer.schedule: {config.optimizer.schedule} the "
            f"learning rate of the finished steps depends on it. Set it back to finish that run; to train its model further, start "
            f"a run in another output folder with model.path: {config.output / FINAL}; or discard the run with --fresh"
        )
    if file.reward is None or not isinstance(config, RlConfig) or config.data.eval is None or steps_before is None:
        return
    # Held-out answers are scored with the weights of the last step, so earlier evaluations could not be compared with later ones.
    weights = [part.weight for composite in file.reward.composites.values() for part in composite.components]
    if any(weight.at(steps_before) != weight.at(config.steps) for weight in weights):
        raise UsageError(
            f"{key} has changed since the run in {config.output} began, and a weight of the reward is scheduled beyond its {steps_before} "
            "steps, so earlier and later evaluations could not be compared; use another output folder, or --fresh"
        )


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


def _refuse_changed_loss(file: TrainFile, before: Mapping[str, Any] | None) -> None:
    """Raise UsageError if the user's file that holds the policy loss has changed since the run began."""
    if before is None or not isinstance(file.config, RlConfig):
        return
    now = resolve_algorithm(file.config.algorithm).loss.record()
    if before.get("sha256") != now.get("sha256"):
        raise UsageError(
            f"the file of algorithm.loss {now['use']} has changed since the run in {file.config.output} began; use another output "
            "folder, or --fresh"
        )


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
