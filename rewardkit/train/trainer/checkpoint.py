"""Checkpoints: the complete state of a run on disk, so that it resumes exactly.

A checkpoint is a folder ``step-N`` that is written under another name and renamed when it is complete. Each process writes its part of
the weights and of the optimizers' states, and reads the parts that it needs, so that a run may resume with another number of processes,
sharded or not. The state of the random number generators is not saved, because every step seeds them from the run's seed and its own
number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor, nn

from rewardkit.errors import DataError, RewardkitError
from rewardkit.train.distributed import collectives, fsdp
from rewardkit.train.distributed.sharded_files import StoredTensor, read_tensors, stored_tensors, write_tensors
from rewardkit.train.trainer.atomic_folder import remove_folder, write_folder_together
from rewardkit.train.trainer.checksums import checksum_of, checksums_of, find_damage, write_checksums
from rewardkit.train.trainer.optimizer import Optimizer

PREFIX = "step-"
STATE = "state.json"
"""The file of a checkpoint that holds everything except tensors."""
NUMBERS = "optimizers"
"""The key of this file under which the optimizers' numbers are."""
WEIGHT, MOMENT = "weight", "moment"
"""Tensors are named part/weight/parameter and part/moment/number of the parameter/name of the moment, which may be a path."""


def step_of(path: Path) -> int:
    """Return the number of finished steps of a checkpoint."""
    return int(path.name.removeprefix(PREFIX))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a run."""

    folder: Path
    keep: int

    def all(self) -> list[Path]:
        """Return the checkpoints from the oldest to the latest."""
        found = [path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
        return sorted(found, key=step_of)

    def latest(self) -> Path | None:
        """Return the latest checkpoint, or None."""
        return next(reversed(self.all()), None)

    def save(
        self,
        step: int,
        parts: Mapping[str, tuple[Mapping[str, nn.Parameter], Optimizer]],
        state: Mapping[str, Any],
        spare: int | None = None,
    ) -> Path:
        """Save a checkpoint, and remove the oldest ones beyond ``keep``.

        Args:
            step: The number of finished steps.
            parts: The trained parameters and their optimizer, by name (policy, critic).
            state: The other state of the training loop, as JSON data.
            spare: The step of a checkpoint that is not removed, however old it is.

        Returns:
            The folder of the checkpoint.

        Raises:
            OutputError: The checkpoint can't be written. Earlier ones are unchanged.
        """
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for name, (parameters, optimizer) in parts.items():
            tensors |= {f"{name}/{WEIGHT}/{key}": value for key, value in parameters.items()}
            for place, value in _flat(f"{name}/{MOMENT}", optimizer.state()["state"]):
                (tensors if isinstance(value, Tensor) else numbers)[place] = value
        content = orjson.dumps({"step": step, **state, NUMBERS: numbers}, option=orjson.OPT_INDENT_2)

        def write(folder: Path) -> None:
            write_tensors(folder, tensors)
            found = collectives.all_gather([checksums_of(folder, collectives.rank(), collectives.size())])
            if collectives.is_main_process():
                (folder / STATE).write_bytes(content)
                checksums = {name: entry for part in found for name, entry in part.items()}
                write_checksums(folder, checksums | {STATE: checksum_of(folder / STATE)})

        path = self.folder / f"{PREFIX}{step:06d}"
        write_folder_together(path, write)
        if collectives.is_main_process():
            for old in self.all()[: -self.keep]:
                if step_of(old) != spare:
                    remove_folder(old)
        collectives.barrier()
        return path

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints after a step."""
        if collectives.is_main_process():
            for path in self.all():
                if step_of(path) > step:
                    remove_folder(path)
        collectives.barrier()

    def restore(self, path: Path, parts: Mapping[str, tuple[Mapping[str, nn.Parameter], Optimizer]]) -> dict[str, Any]:
        """Restore parameters and optimizers from a checkpoint, and return the other state.

        Raises:
            DataError: A file of the checkpoint is missing, truncated or changed.
            RewardkitError: The checkpoint belongs to another model or was written by another version.
        """
        self._refuse_damage(path)
        state: dict[str, Any] = orjson.loads((path / STATE).read_bytes())
        if (numbers := state.pop(NUMBERS, None)) is None:
            raise RewardkitError(f"{path} was written by another version; use another output folder, or --fresh")
        stored = stored_tensors(path)
        into = {f"{name}/{WEIGHT}/{key}": value for name, (own, _) in parts.items() for key, value in own.items()}
        weights = {place: entry.shape for place, entry in stored.items() if f"/{WEIGHT}/" in place}
        if weights != {place: value.shape for place, value in into.items()}:
            raise RewardkitError(
                f"{path} belongs to another model than this configuration's; use another output folder, or --fresh"
            )
        ordered = {
            name: [parameter for group in optimizer.adamw.param_groups for parameter in group["params"]]
            for name, (_, optimizer) in parts.items()
        }
        moments: dict[str, Any] = numbers | {
            place: _empty_moment(entry, _parameter(ordered, place))
            for place, entry in stored.items()
            if place not in into
        }
        read_tensors(path, into | {place: moments[place] for place in stored if place not in into})
        for name, (_, optimizer) in parts.items():
            found: dict[Any, Any] = {}
            for place, value in moments.items():
                owner, _, index, *keys, last = place.split("/")
                if owner == name:
                    inner = found.setdefault(int(index), {})
                    for key in keys:
                        inner = inner.setdefault(key, {})
                    inner[last] = value
            optimizer.restore({"state": found, "param_groups": optimizer.state()["param_groups"]})
        return state

    def _refuse_damage(self, path: Path) -> None:
        """Raise a DataError that names a damaged checkpoint and the one before it."""
        damages = collectives.all_gather([find_damage(path, collectives.rank(), collectives.size())])
        damage = next((found for found in damages if found is not None), None)
        if damage is None:
            return
        earlier = [step_of(other) for other in self.all() if step_of(other) < step_of(path)]
        instead = f"after step {earlier[-1]}" if earlier else "from the beginning"
        raise DataError(f"{path} is damaged: {damage}. Remove this folder to resume {instead}")


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, each with its path below a place."""
    if not isinstance(value, Mapping):
        yield place, value
        return
    for key, inner in value.items():
        yield from _flat(f"{place}/{key}", inner)


def _parameter(ordered: Mapping[str, Sequence[Tensor]], place: str) -> Tensor:
    """Return the parameter that a moment with this name belongs to, of the parameters of each part in the optimizer's order."""
    name, _, index, *_ = place.split("/")
    return ordered[name][int(index)]


def _empty_moment(stored: StoredTensor, parameter: Tensor) -> Tensor:
    """Return a tensor to read a moment into, which is sharded as its parameter is if it has the same shape."""
    if fsdp.is_sharded(parameter) and stored.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=stored.dtype, requires_grad=False)
    return torch.empty(stored.shape, dtype=stored.dtype)
