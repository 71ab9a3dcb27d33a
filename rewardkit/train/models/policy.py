"""The model that is trained, with its tokenizer: asked for log-probabilities, saved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from rewardkit.errors import ConfigError, Location
from rewardkit.train.config import ModelConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import ShardedModel, gather_weights, shard_model
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.models.loading import as_configured, best_device, load_model, load_tokenizer
from rewardkit.train.models.logprobs import plain_logprobs, token_logprobs
from rewardkit.train.seeds import step_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens: TypeAlias = Sequence[int]
HEAD_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Tokens of which those from ``start`` on are looked at."""

    tokens: Tokens
    start: int
    """How many tokens of prompt come first; at least 1."""

    @property
    def length(self) -> int:
        """Tokens that are looked at."""
        return len(self.tokens) - self.start


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """What the model says of the tokens of a batch; padded on the right."""

    logprobs_B_T: Tensor
    """fp32, with gradient; 0 on padding."""
    entropy_B_T: Tensor
    """Nats, without gradient; 0 on padding."""
    mask_B_T: Tensor
    """bool. True: a token, not padding."""
    hidden_N_H: Tensor
    """The hidden states that the tokens were predicted from, row after row without padding."""


class Policy(TrainedModel):
    """A causal language model and its tokenizer."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, device: torch.device, sharded: ShardedModel | None = None
    ) -> None:
        super().__init__(model, tokenizer, device, sharded)
        self.lm: Any = model.get_base_model() if hasattr(model, "peft_config") else model
        self.eos_ids = _eos_ids(self.lm, tokenizer)
        config = self.lm.config.get_text_config()
        self.context: int = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        """Most tokens that the model can read."""
        with torch.no_grad():
            self._head = self._inside(_plain_head, self.lm)
        self._again: Callable[[], Policy] | None = None

    @classmethod
    def load(
        cls, config: ModelConfig, location: Location | None = None, *, seed: int = 0, sharded: bool = False
    ) -> Policy:
        """Load a model, and give it adapters if the configuration asks for them.

        Args:
            config: The section of the configuration.
            location: Where its path stands, for messages.
            seed: Of the adapters' random weights.
            sharded: Divide it among the processes, if there are several.

        Raises:
            ConfigError: There is no such model, it is no causal language model with a usable tokenizer, or it can't be divided.
        """
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - heavy

        torch.manual_seed(step_seed(seed, "model"))
        tokenizer = load_tokenizer(config, location)
        model = load_model(AutoModelForCausalLM, "causal language model", config, location)
        model = as_configured(model, "CAUSAL_LM", config, location)
        if not _eos_ids(model, tokenizer):
            words = "has no end-of-sequence token, so completions could not end; name one as eos_token in its tokenizer_config.json"
            raise ConfigError((location, f"the tokenizer of {config.path} {words}"))
        device = best_device()
        policy = cls(model, tokenizer, device, shard_model(model, device, location) if sharded else None)
        policy._again = partial(cls.load, config, location, seed=seed, sharded=sharded)
        return policy

    def twin(self) -> Policy:
        """Another model with the weights that this one has as long as nothing has been trained."""
        if self.sharded is None:
            return Policy(copy.deepcopy(self.model), self.tokenizer, self.device)
        assert self._again is not None  # noqa: S101 - what is divided has been loaded
        return self._again()

    def backbone(self, **inputs: Any) -> Any:
        """The model without its head."""
        return getattr(self.lm, self.lm.base_model_prefix)(**inputs)

    def unsharded(self) -> AbstractContextManager[None]:
        """Inside, passes without gradient are this process's own affair."""
        return nullcontext() if self.sharded is None else self.sharded.unsharded()

    def forward_logprobs(
        self, batch: Sequence[TokenSpan], temperature: float = 1.0, *, packed: bool = False
    ) -> TokenLogprobs:
        """Log-probability and entropy of each looked-at token.

        Args:
            batch: Sequences; every token of them is read, those from ``start`` on are judged.
            temperature: Divides the logits.
            packed: Put the sequences one behind the other instead of padding them. The result is the same.
        """
        hidden_N_H, logprobs_N, entropy_N = self._inside(self._forward_logprobs, batch, temperature, packed)
        mask_B_T = self.mask(batch)
        empty_B_T = logprobs_N.new_zeros(mask_B_T.shape)
        return TokenLogprobs(
            empty_B_T.masked_scatter(mask_B_T, logprobs_N),
            empty_B_T.masked_scatter(mask_B_T, entropy_N),
            mask_B_T,
            hidden_N_H,
        )

    def _forward_logprobs(
        self, batch: Sequence[TokenSpan], temperature: float, packed: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_N_H = self._states(batch, packed)
        targets_N = torch.tensor([token for row in batch for token in row.tokens[row.start :]], device=self.device)
        return hidden_N_H, *self._score(hidden_N_H, targets_N, temperature)

    def mask(self, batch: Sequence[TokenSpan]) -> Tensor:
        """True: a token that is looked at, not padding. Shape: (B, T)."""
        lengths_B = torch.tensor([row.length for row in batch], device=self.device)
        return torch.arange(int(lengths_B.max()), device=self.device)[None, :] < lengths_B[:, None]

    def states(self, batch: Sequence[TokenSpan], *, packed: bool = False) -> Tensor:
        """The hidden states that the looked-at tokens are predicted from, row after row without padding. Shape: (N, H)."""
        return self._inside(self._states, batch, packed)

    def _states(self, batch: Sequence[TokenSpan], packed: bool) -> Tensor:
        if packed:
            hidden_X_H = self._packed(batch)
            width = None
        else:
            width = max(len(row.tokens) for row in batch)
            hidden_X_H = self._padded(batch, width)
        places, position = [], 0
        for row in batch:
            places.append(torch.arange(position + row.start - 1, position + len(row.tokens) - 1))
            position += len(row.tokens) if width is None else width
        return hidden_X_H[torch.cat(places).to(self.device)]

    def _padded(self, batch: Sequence[TokenSpan], width: int) -> Tensor:
        """Hidden states of right-padded rows, flat. Under causal attention nothing sees the padding: no mask is needed."""
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for index, row in enumerate(batch):
            ids[index, : len(row.tokens)] = torch.tensor(row.tokens)
        hidden = self.backbone(input_ids=ids.to(self.device), use_cache=False).last_hidden_state
        return hidden.flatten(0, 1)  # type: ignore[no-any-return]

    def _packed(self, batch: Sequence[TokenSpan]) -> Tensor:
        """Hidden states of rows one behind the other. Positions that start anew keep them from seeing each other.

        ``use_cache=False`` is essential: with a cache transformers makes no mask from the positions, and rows mix silently.
        """
        ids = torch.tensor([token for row in batch for token in row.tokens], device=self.device)
        positions = torch.cat([torch.arange(len(row.tokens)) for row in batch]).to(self.device)
        out = self.backbone(input_ids=ids[None], position_ids=positions[None], use_cache=False)
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    def _score(self, hidden_N_H: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        if self._head is not None:
            return token_logprobs(hidden_N_H, self._head.weight, self._head.bias, targets_N, temperature)
        return plain_logprobs(self._logits(hidden_N_H), targets_N, temperature)

    def _logits(self, hidden_N_H: Tensor) -> Tensor:
        """Logits of a model whose head does more than one matrix product: by its own forward, on given hidden states."""
        backbone = getattr(self.lm, self.lm.base_model_prefix)
        with _answering(backbone, hidden_N_H[None]):
            return self.lm(input_ids=torch.zeros(1, len(hidden_N_H), dtype=torch.long, device=self.device)).logits[0]  # type: ignore[no-any-return]

    def next_logits(self, hidden_B_H: Tensor) -> Tensor:
        """Logits that a hidden state gives. Shape: (B, V)."""
        return self._inside(self._next_logits, hidden_B_H)

    def _next_logits(self, hidden_B_H: Tensor) -> Tensor:
        if self._head is not None:
            return nn.functional.linear(hidden_B_H, self._head.weight, self._head.bias)
        return self._logits(hidden_B_H)

    def decode(self, tokens: Tokens) -> str:
        """Text of a completion, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, a model with adapters is what it was without them. Only for models with adapters."""
        with self.model.disable_adapter():
            yield

    def save(self, folder: Path) -> None:
        """Write a folder that transformers loads (of a model with adapters: one that peft loads); the first process does."""
        weights = None if self.sharded is None else gather_weights(self.model)
        if collectives.is_main_process():
            self.model.save_pretrained(folder, state_dict=weights)
            self.tokenizer.save_pretrained(folder)


@contextmanager
def _answering(module: Any, hidden: Tensor) -> Iterator[None]:
    """Let a backbone return given hidden states instead of computing any."""
    from transformers.modeling_outputs import BaseModelOutputWithPast  # noqa: PLC0415 - only for unusual heads

    original = module.forward
    module.forward = lambda *_args, **_kwargs: BaseModelOutputWithPast(last_hidden_state=hidden)
    try:
        yield
    finally:
        module.forward = original


def _eos_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """All tokens that end a completion: models may have several."""
    found: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for value in (getattr(generation, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif isinstance(value, Sequence):
            found.update(int(item) for item in value)
    # A tokenizer may invent an end that the model has no embedding for.
    return frozenset(token for token in found if 0 <= token < model.get_input_embeddings().num_embeddings)


def _plain_head(lm: Any) -> nn.Linear | None:
    """The head, if logits are nothing but its matrix product: found out by trying, since models scale and cap in many ways."""
    head = lm.get_output_embeddings()
    if type(head) is not nn.Linear:
        return None
    # Not token 0: padding often has an embedding of zeros, of which every head makes zeros.
    ids = torch.arange(1, 9, device=head.weight.device)[None] % len(head.weight)
    was_training = lm.training
    lm.eval()
    with torch.no_grad():
        full = lm(input_ids=ids, use_cache=False).logits
        hidden = getattr(lm, lm.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
        plain = head(hidden)
    lm.train(was_training)
    return head if torch.allclose(full.float(), plain.float(), rtol=HEAD_TOLERANCE, atol=HEAD_TOLERANCE) else None
