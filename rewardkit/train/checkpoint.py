"""The whole state of a run on disk, so that it goes on as if nothing had happened.

A checkpoint is a folder ``step-N`` that appears at once, by a rename, when all of it is on disk: one that is there is whole.
Random numbers need no keeping, since every step seeds them from the run's seed and its own number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from rewardkit.errors import OutputError, RewardkitError
from rewardkit.files import sync_file, write_whole
from rewardkit.train import parallel, sharding
from rewardkit.train.optim import Optimizer

PREFIX = "step-"
FULL = 1 << 20
"""A disk with fewer bytes free is full, for messages."""


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
            name: sharding.gathered((dict(parameters), optimizer.state()))
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

        path = self.folder / f"{PREFIX}{step:06d}"
        if parallel.is_first():
            write_folder(path, write)
            for old in self.all()[: -self.keep]:
                if step_of(old) != spare:
                    remove_folder(old)
        parallel.wait()
        return path

    def drop_after(self, step: int) -> None:
        """Forget what came after a step."""
        if parallel.is_first():
            for path in self.all():
                if step_of(path) > step:
                    remove_folder(path)
        parallel.wait()

    def restore(self, path: Path, parts: Mapping[str, tuple[Mapping[str, nn.Parameter], Optimizer]]) -> dict[str, Any]:
        """Put parameters and optimisers back; returns the rest of the state.

        Raises:
            RewardkitError: The checkpoint is of another model.
        """
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
                    parameter.copy_(sharding.part_of(weights[key], parameter))
            optimizer.restore(torch.load(path / f"{name}.optimizer.pt", weights_only=True, map_location="cpu"))
        state: dict[str, Any] = orjson.loads((path / "state.json").read_bytes())
        return state


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that appears whole or not at all, in place of one of that name.

    Raises:
        OutputError: It can't be written (permission, full disk); what was there stays.
    """
    part = path.with_name(f".{path.name}.part")
    old = path.with_name(f".{path.name}.old")
    try:
        if old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        for file in part.rglob("*"):
            if file.is_file():
                sync_file(file)
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    # safetensors and torch have errors of their own for a full disk.
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error, path)
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise OutputError(f"{path} can't be written: {reason}; what was there before is untouched") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, in place of one of that name. Raises OutputError."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}; what was there before is untouched") from error


def remove_folder(path: Path) -> None:
    """Remove a folder at once: killed in the middle, half of one must not pass for a whole one. Raises OutputError."""
    gone = path.with_name(f".{path.name}.old")
    try:
        path.rename(gone)
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}") from error
    shutil.rmtree(gone, ignore_errors=True)


def _reason(error: Exception, path: Path) -> str:
    """Why something could not be written; torch tells of a full disk in words of its own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else FULL
    return f"No space left on device ({free:,} bytes are free)" if free < FULL else str(error)
