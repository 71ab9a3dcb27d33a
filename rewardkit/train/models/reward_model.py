"""A reward model and its tokenizer: any backbone that transformers has a sequence classifier for, with one output."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rewardkit.errors import ConfigError, Location
from rewardkit.reward_models import choose_padding_token, context_length, micro_batches, padded_batch
from rewardkit.train.config import ModelConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import ShardedModel, gather_weights, shard_model
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.models.loading import as_configured, best_device, load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RewardModel(TrainedModel):
    """Gives token sequences a score each."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, device: torch.device, sharded: ShardedModel | None = None
    ) -> None:
        super().__init__(model, tokenizer, device, sharded)
        self.config: Any = model.config
        try:
            self.pad_id = choose_padding_token(model, tokenizer)
        except ValueError as error:
            raise ConfigError((None, str(error))) from None
        self._build: Callable[[], Any] | None = None

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        location: Location | None = None,
        *,
        trained: Literal["all", "head"] = "all",
        seed: int = 0,
        sharded: bool = False,
    ) -> RewardModel:
        """Load a backbone and put a head with one output on it, if it has none.

        Args:
            config: The section of the configuration.
            location: Where its path stands, for messages.
            trained: Whether the backbone is trained or only what is on it.
            seed: Of the weights of a new head.
            sharded: Divide the model among the processes, if there are several.

        Raises:
            ConfigError: There is no such model, transformers has no sequence classifier for it, or it can't be divided.
        """
        tokenizer = load_tokenizer(config, location)
        torch.manual_seed(seed)
        build = partial(_load_model, config, location, trained)
        model, device = build(), best_device()
        scorer = cls(model, tokenizer, device, shard_model(model, device, location) if sharded else None)
        scorer._build = build
        return scorer

    @property
    def context(self) -> int:
        """Most tokens that the model can read."""
        return context_length(self.config, self.tokenizer)

    def scores(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Scores in fp32 with gradient, (N,), of token sequences that are padded here."""
        ids, mask = padded_batch(rows, self.pad_id)
        logits_N_1: Tensor = self._inside(self._logits, ids.to(self.device), mask.to(self.device))
        return logits_N_1.squeeze(-1).float()

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).logits  # type: ignore[no-any-return]

    def score_all(self, rows: Sequence[Sequence[int]], most_tokens: int) -> list[float]:
        """Scores of many sequences, without gradient, a micro-batch at a time."""
        found = [0.0] * len(rows)
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            for part in micro_batches([len(row) for row in rows], most_tokens):
                for index, score in zip(part, self.scores([rows[index] for index in part]).tolist(), strict=True):
                    found[index] = score
        self.model.train(was_training)
        return found

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write a folder that transformers loads without us; adapters are merged into the weights. The first process writes.

        Args:
            folder: Where to.
            facts: Written into its config.json, where whoever scores with the model finds them.
        """
        weights = None if self.sharded is None else gather_weights(self.model)
        if not collectives.is_main_process():
            return
        model = self.model
        if hasattr(model, "peft_config"):  # the run goes on with its adapters, if it goes on
            model, weights = self._plain(weights).merge_and_unload(), None
        model.config.update({"pad_token_id": self.pad_id, **facts})
        model.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)

    def _plain(self, weights: dict[str, Tensor] | None) -> Any:
        """A copy of the model for this process alone, from the whole weights of one that is divided."""
        if weights is None:
            return copy.deepcopy(self.model)
        assert self._build is not None  # noqa: S101 - what is divided has been loaded
        model = self._build()
        model.load_state_dict(weights)
        return model


def _load_model(config: ModelConfig, location: Location | None, trained: Literal["all", "head"]) -> Any:
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415 - heavy

    what = "sequence classifier with one output"
    model = load_model(AutoModelForSequenceClassification, what, config, location, num_labels=1)
    if trained == "head":
        getattr(model, model.base_model_prefix).requires_grad_(requires_grad=False)
    return as_configured(model, "SEQ_CLS", config, location)
