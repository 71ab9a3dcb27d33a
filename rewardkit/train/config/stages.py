"""Stages by name, loaded when needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rewardkit.errors import UsageError
from rewardkit.train.config import RunConfig
from rewardkit.train.config.lazy import load_object
from rewardkit.train.config.training_file import TrainFile


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a stage's configuration and its loop are; ``module:name``, imported when they are needed."""

    config: str
    """A ``RunConfig``; its module imports no torch."""
    run: str
    """Called with a ``TrainFile``; trains, and returns the folder of the trained model."""

    def config_class(self) -> type[RunConfig]:
        """The configuration's class."""
        found: type[RunConfig] = load_object(self.config)
        return found

    def runner(self) -> Callable[[TrainFile], Path]:
        """The loop. Raises UsageError where what it needs is not installed."""
        require_torch()
        found: Callable[[TrainFile], Path] = load_object(self.run)
        return found


STAGES: dict[str, Stage] = {
    "sft": Stage("rewardkit.train.config:SftConfig", "rewardkit.train.stages.sft:train_sft"),
    "reward_model": Stage(
        "rewardkit.train.config:RewardModelConfig", "rewardkit.train.stages.reward_model:train_reward_model"
    ),
    "dpo": Stage("rewardkit.train.config:DpoConfig", "rewardkit.train.stages.dpo:train_dpo"),
    "grpo": Stage("rewardkit.train.config:GrpoConfig", "rewardkit.train.stages.grpo:train_grpo"),
    "ppo": Stage("rewardkit.train.config:PpoConfig", "rewardkit.train.stages.ppo:train_ppo"),
}
"""By the name that YAML gives under ``stage``."""


def require_torch() -> None:
    """Raise UsageError where what training needs is not installed."""
    for name in ("torch", "transformers", "peft", "accelerate", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"this needs {name}, which is not installed; install it with: pip install 'rewardkit[train]'"
            )


def import_heavy() -> None:
    """Import what training takes long to import: torch, and transformers with its models."""
    require_torch()
    for name in (
        "torch",
        "accelerate",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
    ):
        importlib.import_module(name)
