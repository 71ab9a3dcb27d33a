"""A causal language model with its tokenizer: computes log-probabilities of tokens, and is saved."""

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
from torch.utils.checkpoint import checkpoint

from rewardkit.errors import ConfigError, Location
from rewardkit.language_models import own_logits
from rewardkit.train.config import ModelConfig
from rewardkit.train.data.batching import PackedRows, lines_of, packed_inputs
from rewardkit.train.data.prompt_sharing import Prompts, SharingLimits, bundle_lengths, bundle_rows, shared_inputs
from rewardkit.train.data.token_text import text_of
from rewardkit.train.data.turn_end import turn_end
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import ShardedModel, gather_weights, shard_model
from rewardkit.train.models.base import TrainedModel
from rewardkit.train.models.heads import find_head, large_embedding, sparse_gradient
from rewardkit.train.models.kernels.choice import chosen_kernel
from rewardkit.train.models.kernels.tiles import NO_SCALING, TORCH_TILES, TileKernel
from rewardkit.train.models.loading import (
    base_model,
    best_device,
    end_token_ids,
    load_model,
    load_tokenizer,
    merge_adapters,
    prepare_for_training,
    stop_token_ids,
)
from rewardkit.train.models.logprobs import PLAIN_LOGITS, next_logits, plain_logprobs, token_logprobs
from rewardkit.train.models.precision import allow_tf32, freeze, resolve_dtype
from rewardkit.train.models.router_loss import add_router_loss
from rewardkit.train.models.saving import replace_adapters, save_pretrained
from rewardkit.train.seeds import step_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A sequence whose tokens from ``start`` on get log-probabilities."""

    tokens: Tokens
    start: int
    """Number of tokens of the prompt, at least 1."""

    @property
    def length(self) -> int:
        """Number of tokens that get log-probabilities."""
        return len(self.tokens) - self.start


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities and entropies of the tokens of a batch, padded on the right."""

    logprobs_B_T: Tensor
    """fp32, with gradient; 0 on padding."""
    entropy_B_T: Tensor
    """Nats, without gradient; 0 on padding."""
    mask_B_T: Tensor
    """bool. True for tokens, False for padding."""
    hidden_N_H: Tensor
    """The hidden states that predict the tokens, row after row without padding."""


class Policy(TrainedModel):
    """A causal language model and its tokenizer."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        sharded: ShardedModel | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, tokenizer, device, sharded, compute_dtype)
        self.lm: Any = model.get_base_model() if hasattr(model, "peft_config") else model
        self.eos_ids = _eos_ids(self.lm, tokenizer)
        self.silent_ids: frozenset[int] = self.eos_ids | ({tokenizer.pad_token_id} - {None})
        """Tokens that end or pad a completion, and so are no part of its text."""
        self.skip_special_tokens = False
        """Whether the text of completions lacks all special tokens."""
        config = self.lm.config.get_text_config()
        self.context: int = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        """The model's context length in tokens."""
        with torch.no_grad():
            found = self._run(find_head, self.lm)
        self._head: nn.Linear | None = None if found is None else found[0]
        """The output embedding; None if the model's own forward makes the logits."""
        self._scaling = NO_SCALING if found is None else found[1]
        self.logprob_memory_mb: int | None = None
        """The memory that logits may take, in MB (``model.logprob_memory_mb``)."""
        self.logprob_kernel: TileKernel = TORCH_TILES
        """Does the arithmetic on tiles of logits (``model.logprob_kernel``)."""
        self._embedding = large_embedding(self.lm) if sharded is None else None
        """The input embedding, if its gradient is worth keeping sparse in the backward pass."""
        self.packing = False
        """Whether training and evaluation pack the sequences of a micro-batch (``resolve_packing``)."""
        self.sharing: SharingLimits | None = None
        """Which packed rows share the computation of equal prompts (``resolve_prompt_sharing``); None: none do."""
        self._reload: Callable[..., Policy] | None = None
        self._load_base: Callable[[], Any] | None = None
        """Loads the model under the adapters, if it was loaded with other adapters."""

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        location: Location | None = None,
        *,
        seed: int = 0,
        sharded: bool = False,
        trained: bool = True,
        stop: Sequence[str] = (),
        skip_special_tokens: bool = False,
    ) -> Policy:
        """Load a model, and add adapters if they are configured.

        Args:
            config: The section ``model`` of the configuration.
            location: The place of the model's path in the configuration, for messages.
            seed: The seed of the adapters' random weights.
            sharded: Shard the model among the processes, if there are several.
            trained: False freezes all weights, which then have the compute type.
            stop: The texts that end a completion. Those that are a special token become end-of-sequence tokens, and stay in the
                completion's text unless they end the assistant's turn in the chat template.
            skip_special_tokens: Leave all special tokens out of the text of completions.

        Raises:
            ConfigError: There is no such model, it is no causal language model with a usable tokenizer, or it can't be sharded.
        """
        from transformers import AutoModelForCausalLM

        torch.manual_seed(step_seed(seed, "model"))
        device = best_device()
        compute_dtype = resolve_dtype(config, device)
        allow_tf32(config)
        tokenizer = load_tokenizer(config, location)
        dtype = torch.float32 if trained and config.lora is None else compute_dtype
        model = load_model(
            AutoModelForCausalLM, "causal language model", config, location, dtype=dtype, sharded=sharded
        )
        if trained:
            add_router_loss(model, location)
        model = prepare_for_training(model, "CAUSAL_LM", config, location)
        if not trained:
            freeze(model, compute_dtype)
        if not _eos_ids(model, tokenizer):
            words = "has no end-of-sequence token, so completions could not end; name one as model.eos_token"
            raise ConfigError((location, f"the tokenizer of {config.path} {words}"))
        shards = shard_model(model, device, location) if sharded else None
        policy = cls(model, tokenizer, device, shards, compute_dtype)
        policy.logprob_memory_mb = config.logprob_memory_mb
        kernel = (config.logprob_kernel, policy._head, policy._scaling, compute_dtype, device, location)
        policy.logprob_kernel = policy._run(chosen_kernel, *kernel)
        if config.eos_token is not None and policy.lm.generation_config is not None:
            policy.lm.generation_config.eos_token_id = sorted(policy.eos_ids)  # is saved with the model
        stop_ids = stop_token_ids(tokenizer, stop)
        policy.eos_ids |= stop_ids
        policy.silent_ids |= stop_ids & set(turn_end(tokenizer) or ())
        policy.skip_special_tokens = skip_special_tokens
        policy._reload = partial(cls.load, config, location, seed=seed, sharded=sharded)
        if config.lora is not None and base_model(config.path, location) != config.path:
            policy._load_base = partial(load_model, AutoModelForCausalLM, "causal language model", config, location)
        return policy

    def copy(self, *, trained: bool) -> Policy:
        """Return another model with the weights that this one had when it was loaded. Call it before the first update.

        Args:
            trained: False freezes all weights of the copy, which then have the compute type.
        """
        if self.sharded is not None:
            assert self._reload is not None  # noqa: S101 - sharded models have been loaded
            found = self._reload(trained=trained)
        else:
            model = copy.deepcopy(self.model)
            if not trained:
                freeze(model, self.compute_dtype)
            found = Policy(model, self.tokenizer, self.device, compute_dtype=self.compute_dtype)
        found.packing, found.sharing = self.packing, self.sharing
        found.logprob_memory_mb, found.logprob_kernel = self.logprob_memory_mb, self.logprob_kernel
        return found

    def backbone(self, **inputs: Any) -> Any:
        """Call the model without its head."""
        with sparse_gradient(self._embedding):
            return getattr(self.lm, self.lm.base_model_prefix)(**inputs)

    def unsharded(self) -> AbstractContextManager[None]:
        """Return a context in which this process can run forward passes without gradient independently of the others."""
        return nullcontext() if self.sharded is None else self.sharded.unsharded()

    def forward_logprobs(
        self, batch: Sequence[TokenSpan], temperature: float = 1.0, *, packed: bool = False
    ) -> TokenLogprobs:
        """Compute the log-probability and entropy of each token from ``start`` on.

        Args:
            batch: The sequences.
            temperature: Divides the logits.
            packed: Put several sequences into a line instead of padding them (``packing``). The result is the same.
        """
        hidden_N_H, logprobs_N, entropy_N = self._run(self._forward_logprobs, batch, temperature, packed)
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
        return hidden_N_H, *self._score(hidden_N_H, self._targets(batch), temperature)

    def _targets(self, batch: Sequence[TokenSpan]) -> Tensor:
        """Return the tokens from ``start`` on, row after row. Shape: (N,)."""
        return torch.tensor([token for row in batch for token in row.tokens[row.start :]], device=self.device)

    def mask(self, batch: Sequence[TokenSpan]) -> Tensor:
        """Return a mask that is True for tokens and False for padding. Shape: (B, T)."""
        lengths_B = torch.tensor([row.length for row in batch], device=self.device)
        return torch.arange(int(lengths_B.max()), device=self.device)[None, :] < lengths_B[:, None]

    def states(self, batch: Sequence[TokenSpan], *, packed: bool = False) -> Tensor:
        """Return the hidden states that predict the tokens from ``start`` on, row after row without padding. Shape: (N, H)."""
        return self._run(self._states, batch, packed)

    def _states(self, batch: Sequence[TokenSpan], packed: bool) -> Tensor:
        lengths = [len(row.tokens) for row in batch]
        if packed and self.sharing is not None and max(lengths) <= self.sharing.longest:
            prompts = Prompts.of([row.tokens[: row.start] for row in batch])
            bundles = bundle_rows(lengths, prompts, self.sharing)
            if len(bundles) < len(batch):
                return self._shared(batch, bundles, bundle_lengths(bundles, lengths, prompts))
        lines = lines_of(lengths, one_line=self.packs_one_line) if packed else [[row] for row in range(len(batch))]
        width = max(sum(lengths[row] for row in line) for line in lines)
        hidden_X_H = self._padded(batch, width) if len(lines) == len(batch) else self._packed(batch, lines)
        begins = [0] * len(batch)
        for number, line in enumerate(lines):
            place = number * width
            for row in line:
                begins[row] = place
                place += lengths[row]
        places = [
            torch.arange(begin + row.start - 1, begin + len(row.tokens) - 1)
            for begin, row in zip(begins, batch, strict=True)
        ]
        return hidden_X_H[torch.cat(places).to(self.device)]

    def _padded(self, batch: Sequence[TokenSpan], width: int) -> Tensor:
        """Return the hidden states of right-padded rows, flat.

        Causal attention never sees the padding, so only the auxiliary loss of a mixture of experts needs a mask.
        """
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for index, row in enumerate(batch):
            ids[index, : len(row.tokens)] = torch.tensor(row.tokens)
        mask_B_T = None
        if self.has_router_loss:
            lengths_B = torch.tensor([len(row.tokens) for row in batch])
            mask_B_T = (torch.arange(width) < lengths_B[:, None]).long().to(self.device)
        out = self.backbone(input_ids=ids.to(self.device), attention_mask=mask_B_T, use_cache=False)
        hidden = out.last_hidden_state
        return hidden.flatten(0, 1)  # type: ignore[no-any-return]

    def _packed(self, batch: Sequence[TokenSpan], lines: Sequence[Sequence[int]]) -> Tensor:
        """Return the hidden states of packed rows, flat. Their positions restart, so that rows do not attend to each other.

        ``use_cache=False`` is essential: with a cache transformers makes no mask from the positions, and rows mix silently.
        """
        ids, positions = packed_inputs([row.tokens for row in batch], lines)
        out = self.backbone(input_ids=ids.to(self.device), position_ids=positions.to(self.device), use_cache=False)
        return out.last_hidden_state.flatten(0, 1)  # type: ignore[no-any-return]

    def _shared(self, batch: Sequence[TokenSpan], bundles: Sequence[Sequence[int]], lengths: Sequence[int]) -> Tensor:
        """Return the hidden states of ``states`` for bundles of rows with the same prompt, which is computed once."""
        lines = lines_of(lengths, one_line=False)
        inputs = shared_inputs([row.tokens for row in batch], [row.start for row in batch], bundles, lines)
        mask = inputs.attends_L_W_W[:, None]
        if self.attention == "eager":  # adds its mask to the scores
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        ids_L_W, positions_L_W, mask = (part.to(self.device) for part in (inputs.ids_L_W, inputs.positions_L_W, mask))
        out = self.backbone(input_ids=ids_L_W, attention_mask=mask, position_ids=positions_L_W, use_cache=False)
        hidden_X_H: Tensor = out.last_hidden_state.flatten(0, 1)
        return hidden_X_H[torch.cat(list(inputs.places)).to(self.device)]

    @property
    def attention(self) -> str:
        """The name of the attention that the model computes with."""
        return str(getattr(self.lm.config, "_attn_implementation", ""))

    @property
    def has_varlen_attention(self) -> bool:
        """Whether the model's attention takes one line of sequences without a mask."""
        return self.attention.startswith("flash_attention")

    @property
    def packs_one_line(self) -> bool:
        """Whether packed sequences make one line without padding, which an auxiliary loss of the model needs, too."""
        return self.has_router_loss or self.has_varlen_attention

    def packed_rows(
        self, sequences: Sequence[Sequence[int]], prompts: Sequence[Tokens] | None = None
    ) -> PackedRows | None:
        """Return the sequences of a batch if this policy packs them; otherwise None.

        Args:
            sequences: The number of tokens of each sequence of each row.
            prompts: The prompt of each row, if a row is one sequence, and its tokens from there on get log-probabilities.
        """
        if not self.packing:
            return None
        sharing = None
        longest = max((length for row in sequences for length in row), default=0)
        if prompts is not None and self.sharing is not None and longest <= self.sharing.longest:
            sharing = Prompts.of(prompts), self.sharing
        return PackedRows(sequences, self.packs_one_line, sharing)

    def _score(self, hidden_N_H: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        if self._head is not None:
            return token_logprobs(
                hidden_N_H,
                self._head.weight,
                self._head.bias,
                targets_N,
                temperature,
                self.compute_dtype,
                self._scaling,
                self.logprob_memory_mb,
                add_to_grad=self.sharded is None,
                kernel=self.logprob_kernel,
            )
        return self._own_logprobs(hidden_N_H, targets_N, temperature)

    def _own_logprobs(self, hidden_N_H: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities and entropies from the logits that the model's own forward makes.

        The logits are made of a part of the hidden states at a time, and again in the backward pass, unless the model is sharded.
        """

        def score(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return plain_logprobs(own_logits(self.lm, hidden), targets, temperature)

        rows = max(PLAIN_LOGITS // self.lm.get_input_embeddings().weight.shape[0], 1)
        if len(hidden_N_H) <= rows or self.sharded is not None:
            return score(hidden_N_H, targets_N)
        parts = [
            checkpoint(score, hidden, targets, use_reentrant=False)
            for hidden, targets in zip(torch.split(hidden_N_H, rows), torch.split(targets_N, rows), strict=True)
        ]
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def next_logits(self, hidden_B_H: Tensor) -> Tensor:
        """Return the logits of hidden states. Shape: (B, V)."""
        return self._run(self._next_logits, hidden_B_H)

    def _next_logits(self, hidden_B_H: Tensor) -> Tensor:
        if self._head is not None:
            return self._scaling.apply(next_logits(hidden_B_H, self._head.weight, self._head.bias))
        return own_logits(self.lm, hidden_B_H)

    def forward_greedy(self, batch: Sequence[TokenSpan], *, packed: bool = False) -> tuple[Tensor, Tensor]:
        """Compute the log-probability of each token from ``start`` on, and whether it is the likeliest, without gradient.

        Args:
            batch: The sequences.
            packed: As in ``forward_logprobs``.

        Returns:
            The log-probabilities, 0 on padding, and whether each token is the likeliest, False on padding. Shapes: (B, T).
        """
        logprobs_N, likeliest_N = self._run(self._forward_greedy, batch, packed)
        mask_B_T = self.mask(batch)
        empty_B_T = logprobs_N.new_zeros(mask_B_T.shape)
        return (
            empty_B_T.masked_scatter(mask_B_T, logprobs_N),
            torch.zeros_like(mask_B_T).masked_scatter(mask_B_T, likeliest_N),
        )

    @torch.no_grad()
    def _forward_greedy(self, batch: Sequence[TokenSpan], packed: bool) -> tuple[Tensor, Tensor]:
        hidden_N_H, logprobs_N, _ = self._forward_logprobs(batch, 1.0, packed)
        return logprobs_N, self._are_likeliest(hidden_N_H, self._targets(batch))

    def are_likeliest(self, hidden_N_H: Tensor, tokens_N: Tensor) -> Tensor:
        """Return whether tokens are the most probable ones at hidden states, in parts that limit the memory for logits. Shape: (N,)."""
        return self._run(self._are_likeliest, hidden_N_H, tokens_N)

    def _are_likeliest(self, hidden_N_H: Tensor, tokens_N: Tensor) -> Tensor:
        rows = max(PLAIN_LOGITS // self.lm.get_input_embeddings().weight.shape[0], 1)
        parts = [
            self._next_logits(hidden).argmax(-1) == tokens
            for hidden, tokens in zip(torch.split(hidden_N_H, rows), torch.split(tokens_N, rows), strict=True)
        ]
        return torch.cat(parts)

    def decode(self, tokens: Tokens) -> str:
        """Return the text of a completion as the reward reads it, without the tokens that end or pad it."""
        return text_of(self.tokenizer, tokens, self.silent_ids, skip_special_tokens=self.skip_special_tokens)

    def full_text(self, tokens: Tokens) -> str:
        """Return the text of a completion with all special tokens, in which stop texts are looked for."""
        return text_of(self.tokenizer, tokens)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Return a context in which the adapters are switched off. Only for models with adapters."""
        with self.model.disable_adapter():
            yield

    def save(self, folder: Path) -> None:
        """Save a folder that transformers loads, or peft if the model has adapters. The main process writes.

        The weights have the compute type; adapters are float32. Adapters on a model that was loaded with other adapters are merged.
        """
        weights = None
        if self.sharded is not None:
            has_adapters = hasattr(self.model, "peft_config")
            dtype = None if has_adapters else self.compute_dtype
            weights = gather_weights(self.model, folder.parent, dtype, only_trained=has_adapters)
        if collectives.is_main_process():
            save_pretrained(self.model, folder, weights, self.compute_dtype)
            if self._load_base is not None:
                merged = merge_adapters(self._load_base(), str(folder))
                merged.generation_config = self.lm.generation_config
                replace_adapters(folder, merged, self.compute_dtype)
            self.tokenizer.save_pretrained(folder)


def _eos_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    words = model.get_input_embeddings().weight.shape[0]
    return end_token_ids(getattr(model, "generation_config", None), tokenizer, words)
