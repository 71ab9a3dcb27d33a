"""The table of training stages, imported when they are needed. A new stage is one line here."""

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
    """A training stage: its settings and its training function, each as ``module:name``."""

    config: str
    """The class of its settings, a ``RunConfig``. The module must not import torch."""
    run: str
    """The function that trains. It takes a ``TrainFile`` and returns the folder of the trained model."""

    def config_class(self) -> type[RunConfig]:
        """Import and return the class of the settings."""
        found: type[RunConfig] = load_object(self.config)
        return found

    def runner(self) -> Callable[[TrainFile], Path]:
        """Import and return the function that trains. Raises UsageError if a package that it needs is missing."""
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
"""The stages by the name that a configuration gives as ``stage``."""


def require_torch() -> None:
    """Raise UsageError if a package that training needs is not installed."""
    for name in ("torch", "transformers", "peft", "accelerate", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"training needs {name}, which is not installed: pip install 'rewardkit[train]'")


def import_heavy() -> None:
    """Import the packages that take long: torch and transformers."""
    require_torch()
    for name in (
        "torch",
        "accelerate",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
    ):
        importlib.import_module(name)
