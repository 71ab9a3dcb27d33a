"""Checkpoints: the complete state of a run on disk, so that it resumes exactly.

A checkpoint is a folder ``step-N`` that is written under another name and renamed when it is complete. The state of the random number
generators is not saved, because every step seeds them from the run's seed and its own number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rewardkit.errors import DataError, RewardkitError
from rewardkit.train.distributed import collectives, fsdp
from rewardkit.train.trainer.atomic_folder import remove_folder, write_folder
from rewardkit.train.trainer.checksums import find_damage, write_checksums
from rewardkit.train.trainer.optimizer import Optimizer

PREFIX = "step-"


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
        whole = {
            name: fsdp.gather_to_first((dict(parameters), optimizer.state()))
            for name, (parameters, optimizer) in parts.items()
        }

        def write(folder: Path) -> None:
            for name, (parameters, optimizer_state) in whole.items():
                save_file(
                    {key: value.detach().contiguous() for key, value in parameters.items()},
                    folder / f"{name}.safetensors",
                )
                torch.save(optimizer_state, folder / f"{name}.optimizer.pt")
            (folder / "state.json").write_bytes(orjson.dumps({"step": step, **state}, option=orjson.OPT_INDENT_2))
            write_checksums(folder)

        path = self.folder / f"{PREFIX}{step:06d}"
        if collectives.is_main_process():
            write_folder(path, write)
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
            RewardkitError: The checkpoint belongs to another model.
        """
        self._refuse_damage(path)
        for name, (parameters, optimizer) in parts.items():
            weights = load_file(path / f"{name}.safetensors")
            if weights.keys() != parameters.keys() or any(
                weights[key].shape != parameters[key].shape for key in weights
            ):
                raise RewardkitError(
                    f"{path} belongs to another model than this configuration's; use another output folder, or --fresh"
                )
            with torch.no_grad():
                for key, parameter in parameters.items():
                    parameter.copy_(fsdp.local_part(weights[key], parameter))
            optimizer.restore(torch.load(path / f"{name}.optimizer.pt", weights_only=True, map_location="cpu"))
        state: dict[str, Any] = orjson.loads((path / "state.json").read_bytes())
        return state

    def _refuse_damage(self, path: Path) -> None:
        """Raise a DataError that names a damaged checkpoint and the one before it."""
        if (damage := find_damage(path)) is None:
            return
        earlier = [step_of(other) for other in self.all() if step_of(other) < step_of(path)]
        instead = f"after step {earlier[-1]}" if earlier else "from the beginning"
        raise DataError(f"{path} is damaged: {damage}. Remove this folder to resume {instead}")
