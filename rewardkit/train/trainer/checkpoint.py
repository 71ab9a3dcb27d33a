"""The whole state of a run on disk, so that it goes on as if nothing had happened.

A checkpoint is a folder ``step-N`` that appears at once, by a rename, when all of it is on disk: one that is there is whole.
Random numbers need no keeping, since every step seeds them from the run's seed and its own number.
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
    """How many steps were done when a checkpoint was made."""
    return int(path.name.removeprefix(PREFIX))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a run."""

    folder: Path
    keep: int

    def all(self) -> list[Path]:
        """From the oldest to the latest."""
        found = [path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
        return sorted(found, key=step_of)

    def latest(self) -> Path | None:
        """The one to go on from."""
        return next(reversed(self.all()), None)

    def save(
        self,
        step: int,
        parts: Mapping[str, tuple[Mapping[str, nn.Parameter], Optimizer]],
        state: Mapping[str, Any],
        spare: int | None = None,
    ) -> Path:
        """Keep everything after ``step`` steps; the oldest beyond ``keep`` go.

        Args:
            step: How many steps are done.
            parts: By name (policy, critic): the trained parameters and their optimiser.
            state: Whatever else the loop needs, as JSON data.
            spare: The step of a checkpoint that stays, however old it is.

        Raises:
            OutputError: It can't be written; the earlier ones are untouched.
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
        """Forget what came after a step."""
        if collectives.is_main_process():
            for path in self.all():
                if step_of(path) > step:
                    remove_folder(path)
        collectives.barrier()

    def restore(self, path: Path, parts: Mapping[str, tuple[Mapping[str, nn.Parameter], Optimizer]]) -> dict[str, Any]:
        """Put parameters and optimisers back; returns the rest of the state.

        Raises:
            DataError: A file of the checkpoint is missing, truncated or changed.
            RewardkitError: The checkpoint is of another model.
        """
        self._refuse_damage(path)
        for name, (parameters, optimizer) in parts.items():
            weights = load_file(path / f"{name}.safetensors")
            if weights.keys() != parameters.keys() or any(
                weights[key].shape != parameters[key].shape for key in weights
            ):
                raise RewardkitError(
                    f"{path} is of another model than this configuration's; use another output folder, or --fresh"
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
