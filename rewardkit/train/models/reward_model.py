"""Reward models with their tokenizers: classifiers of transformers with one output, of sequences or of tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rewardkit.errors import ConfigError, Location
from rewardkit.reward_models import choose_padding_token, context_length, padded_batch
from rewardkit.train.config import ModelConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import ShardedModel, gather_weights, shard_model
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.models.loading import best_device, load_model, load_tokenizer, prepare_for_training
from rewardkit.train.models.precision import allow_tf32, resolve_dtype
from rewardkit.train.models.router_loss import add_router_loss
from rewardkit.train.models.saving import save_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of classifier."""

    auto: str
    """The automatic class of transformers."""
    what: str
    """What it is called in messages."""
    peft_task: str


class RewardModel(TrainedModel):
    """Scores token sequences."""

    kind = Kind("AutoModelForSequenceClassification", "sequence classifier with one output", "SEQ_CLS")

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        sharded: ShardedModel | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, tokenizer, device, sharded, compute_dtype)
        self.config: Any = model.config
        try:
            self.pad_id = choose_padding_token(model, tokenizer)
        except ValueError as error:
            raise ConfigError((None, str(error))) from None
        self._build: Callable[..., Any] | None = None

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        location: Location | None = None,
        *,
        trained: Literal["all", "head"] = "all",
        seed: int = 0,
        sharded: bool = False,
    ) -> Self:
        """Load a backbone, and add a head with one output if it has none.

        Args:
            config: The section ``model`` of the configuration.
            location: The place of the model's path in the configuration, for messages.
            trained: Train all weights, or only the head.
            seed: The seed of the weights of a new head.
            sharded: Shard the model among the processes, if there are several.

        Raises:
            ConfigError: There is no such model, transformers has no sequence classifier for it, or it can't be sharded.
        """
        device = best_device()
        compute_dtype = resolve_dtype(config, device)
        allow_tf32(config)
        tokenizer = load_tokenizer(config, location)
        torch.manual_seed(seed)
        build = partial(_load_model, cls.kind, config, location, trained, compute_dtype)
        model = build(sharded=sharded)
        shards = shard_model(model, device, location) if sharded else None
        scorer = cls(model, tokenizer, device, shards, compute_dtype)
        scorer._build = build
        return scorer

    def is_trained(self, source: str) -> bool:
        """Return whether a model's own configuration names a trained classifier of this kind, rather than a backbone.

        Args:
            source: The folder or hub name that the model was loaded from.
        """
        from transformers import AutoConfig

        named = AutoConfig.from_pretrained(source).architectures or ()
        return any(self.kind.auto.removeprefix("AutoModel") in name for name in named)

    @property
    def context(self) -> int:
        """The model's context length in tokens."""
        return context_length(self.config, self.tokenizer)

    def scores(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Score token sequences. Returns float32 scores with gradient, of shape (N,)."""
        ids, mask = padded_batch(rows, self.pad_id)
        logits_N_1: Tensor = self._run(self._logits, ids.to(self.device), mask.to(self.device))
        return logits_N_1.squeeze(-1).float()

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).logits  # type: ignore[no-any-return]

    def score_all(self, rows: Sequence[Sequence[int]], most_tokens: int) -> list[float]:
        """Score many sequences without gradient. Each process scores its share, and all get all scores."""
        scores_N = self.compute_rows(
            lambda part: self.scores([rows[index] for index in part]),
            torch.zeros(len(rows)),
            [len(row) for row in rows],
            most_tokens,
        )
        return scores_N.tolist()  # type: ignore[no-any-return,unused-ignore]

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Save a folder that transformers loads, with adapters merged into the weights. The main process writes.

        The weights have the compute type.

        Args:
            folder: The folder to write.
            facts: Further entries of its config.json, which the reward ``reward_model`` reads.
        """
        weights = None
        if self.sharded is not None:
            dtype = None if hasattr(self.model, "peft_config") else self.compute_dtype
            weights = gather_weights(self.model, folder.parent, dtype)
        if not collectives.is_main_process():
            return
        model = self.model
        if hasattr(model, "peft_config"):  # merged in a copy, because the run may continue
            model, weights = self._plain(weights).merge_and_unload(), None
        model.config.update({"pad_token_id": self.pad_id, **facts})
        save_pretrained(model, folder, weights, self.compute_dtype)
        self.tokenizer.save_pretrained(folder)

    def _plain(self, weights: dict[str, Tensor] | None) -> Any:
        """Return an unsharded copy of the model, from the full weights of a sharded one."""
        if weights is None:
            return copy.deepcopy(self.model)
        assert self._build is not None  # noqa: S101 - sharded models have been loaded
        model = self._build()
        model.load_state_dict(weights)
        return model


class StepRewardModel(RewardModel):
    """Scores the steps of completions: a token classifier, whose output at a step's last token is the log-odds that the step is right."""

    kind = Kind("AutoModelForTokenClassification", "token classifier with one output", "TOKEN_CLS")

    def step_logits(self, rows: Sequence[Sequence[int]], ends: Sequence[Sequence[int]]) -> Tensor:
        """Score steps.

        Args:
            rows: The tokens of each completion with its prompt.
            ends: The places of the last tokens of each row's steps.

        Returns:
            float32 logits with gradient, row after row without padding. Shape: (S,).
        """
        ids, mask = padded_batch(rows, self.pad_id)
        places_S = torch.tensor([number * ids.shape[1] + end for number, own in enumerate(ends) for end in own])
        logits_N_T_1: Tensor = self._run(self._logits, ids.to(self.device), mask.to(self.device))
        return logits_N_T_1.flatten()[places_S.to(self.device)].float()

    def score_steps(
        self, rows: Sequence[Sequence[int]], ends: Sequence[Sequence[int]], most_tokens: int
    ) -> list[list[float]]:
        """Score the steps of many completions without gradient. Each process scores its share, and all get all logits."""
        counts = [len(own) for own in ends]

        def compute(part: list[int]) -> Tensor:
            logits_S = self.step_logits([rows[index] for index in part], [ends[index] for index in part])
            own = [counts[index] for index in part]
            return pad_sequence(list(torch.split(logits_S, own)), batch_first=True)

        found_N_S = self.compute_rows(
            compute, torch.zeros(len(rows), max(counts, default=0)), [len(row) for row in rows], most_tokens
        )
        return [logits[:count] for logits, count in zip(found_N_S.tolist(), counts, strict=True)]


def _load_model(
    kind: Kind,
    config: ModelConfig,
    location: Location | None,
    trained: Literal["all", "head"],
    compute_dtype: torch.dtype,
    *,
    sharded: bool = False,
) -> Any:
    import transformers

    dtype = torch.float32 if trained == "all" and config.lora is None else compute_dtype
    model = load_model(
        getattr(transformers, kind.auto), kind.what, config, location, dtype=dtype, sharded=sharded, num_labels=1
    )
    add_router_loss(model, location)
    if trained == "head":
        getattr(model, model.base_model_prefix).requires_grad_(requires_grad=False)
    return prepare_for_training(model, kind.peft_task, config, location)
