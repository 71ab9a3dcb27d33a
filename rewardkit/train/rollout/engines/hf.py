"""The engine ``hf``: samples with the trained model itself, by transformers, in batches with a KV cache, on any device.

The prompt of a group is processed once, and finished rows leave the batch. Random numbers depend on a completion's seed and the position
alone, so a completion does not depend on the rest of the batch, except for rounding when two tokens are almost equally likely.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rewardkit.errors import EngineError
from rewardkit.reward_models import is_out_of_memory, release_memory
from rewardkit.rollout_engine import Completion, FinishReason, Request, Sampling
from rewardkit.train.models.policy import Policy

logger = logging.getLogger(__name__)

RETIRE_SHARE = 0.125
"""Finished rows leave the cache once they make up this share of it, since copying the cache costs as much as some steps."""
STOP_TAIL = 8
"""The number of tokens that are decoded beyond the length of a stop text, to find it."""
BLOCK = 512
"""The words whose probabilities are summed first when a token of a large vocabulary is drawn."""


class HfEngine:
    """Samples with the policy's own model, so that no weights have to be copied."""

    def __init__(self, policy: Policy, batch: int = 256) -> None:
        """Create the engine.

        Args:
            policy: The model.
            batch: Largest number of completions at once. A group is divided only if memory runs out.

        Raises:
            EngineError: The model keeps a state that can't be sampled from in batches, as state space models and linear attention do.
        """
        for layer in DynamicCache(config=policy.lm.config).layers:
            if any("LinearAttention" in kind.__name__ for kind in type(layer).__mro__):
                raise EngineError(
                    f"the engine hf can't sample from a {type(policy.lm).__name__}, whose layers keep another state than keys and values "
                    f"({type(layer).__name__}); use rollout.engine: vllm"
                )
        self.policy = policy
        self.batch = batch
        """Largest number of completions at once. A group is divided only if memory runs out."""
        self.tolerance = 1e-3 if policy.compute_dtype == torch.float32 else 0.1

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample completions, as many requests at once as ``batch`` allows; half as many if memory runs out."""
        model = self.policy.model
        was_training = model.training
        model.eval()
        try:
            with self.policy.unsharded():
                for indices in self._batches(requests):
                    with torch.inference_mode(), self.policy.autocast():  # casts the weights once per batch
                        done = self._sampled([requests[index] for index in indices], sampling)
                    yield list(zip(indices, done, strict=True))
        finally:
            model.train(was_training)

    def _sampled(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Return the completions of each request. If memory runs out, the two halves of the completions are sampled separately.

        Completions depend on their seeds alone, so a request can be divided, too.
        """
        rows = sum(len(request.seeds) for request in requests)
        try:
            return _Batch(self.policy, requests, sampling).run()
        except RuntimeError as error:
            if not is_out_of_memory(error) or rows == 1:
                raise
        release_memory()
        self.batch = (rows + 1) // 2
        logger.warning("out of memory: continuing to sample with %s completions at once", self.batch)
        if len(requests) > 1:
            middle = (len(requests) + 1) // 2
            return self._sampled(requests[:middle], sampling) + self._sampled(requests[middle:], sampling)
        [whole] = requests
        parts = [replace(whole, seeds=seeds) for seeds in (whole.seeds[: self.batch], whole.seeds[self.batch :])]
        return [[completion for part in parts for completion in self._sampled([part], sampling)[0]]]

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        taken: list[int] = []
        rows = 0
        for index, request in enumerate(requests):
            if taken and rows + len(request.seeds) > self.batch:
                yield taken
                taken, rows = [], 0
            taken.append(index)
            rows += len(request.seeds)
        if taken:
            yield taken

    def sync(self) -> None:
        """Do nothing: the weights are the policy's own."""

    def sleep(self) -> None:
        """Do nothing: no memory is held between batches."""

    def wake(self) -> None:
        """Do nothing: the engine is always ready."""

    def close(self) -> None:
        """Do nothing."""


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that writes into preallocated memory, instead of copying the cache for each token."""

    def __init__(self, room: int, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.dtype_kept = dtype
        """The data type of keys and values. Under autocast rotary embeddings make float32 keys, which would be cast for every token."""
        self.used = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        key_states, value_states = key_states.to(self.dtype_kept), value_states.to(self.dtype_kept)
        if self._keys is None or self._values is None:
            self.lazy_initialization(key_states, value_states)
            self._keys, self._values = self._grown(key_states), self._grown(value_states)
        end = self.used + key_states.shape[-2]
        self._keys[:, :, self.used : end] = key_states
        self._values[:, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def _grown(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_empty(rows, heads, self.room, width)

    def choose(self, rows: Tensor) -> None:
        """Keep these rows, in this order. A row may occur several times."""
        assert self._keys is not None  # noqa: S101 - for the type checker
        assert self._values is not None  # noqa: S101
        for name in ("_keys", "_values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty(len(rows), *old.shape[1:])
            new[:, :, : self.used] = old[:, :, : self.used].index_select(0, rows)
            setattr(self, name, new)
        self.keys, self.values = self._keys[:, :, : self.used], self._values[:, :, : self.used]


@dataclass(slots=True)
class _Row:
    """A completion that is being sampled."""

    request: int
    place: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason = "length"


class _Batch:
    """A batch of requests that are sampled together."""

    def __init__(self, policy: Policy, requests: Sequence[Request], sampling: Sampling) -> None:
        self.policy = policy
        self.requests = requests
        self.sampling = sampling
        self.device = policy.device
        self.rows = [
            _Row(index, place) for index, request in enumerate(requests) for place in range(len(request.seeds))
        ]
        width = max(len(request.prompt) for request in requests)
        self.room = width + sampling.max_new_tokens
        self.cache = DynamicCache(config=policy.lm.config)
        self.cache.layers = [
            _Layer(self.room, policy.compute_dtype) if type(layer) is DynamicLayer else layer
            for layer in self.cache.layers
        ]
        self.eos = torch.tensor(sorted(policy.eos_ids), device=self.device)

    def run(self) -> list[list[Completion]]:
        """Sample all completions, and return them by request."""
        hidden_B_H, mask_B_W, positions_B = self.prefill()
        live = torch.arange(len(self.rows), device=self.device)  # rows still in the cache
        seeds_B = torch.tensor(
            [seed for request in self.requests for seed in request.seeds], device=self.device, dtype=torch.long
        )
        open_B = torch.ones(len(self.rows), dtype=torch.bool, device=self.device)
        tokens_T: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for step in range(self.sampling.max_new_tokens):
            logits_B_V = self.policy.next_logits(hidden_B_H).float()
            tokens_B, logprobs_B = draw(logits_B_V, self.sampling, seeds_B, step)
            tokens_T.append((live, tokens_B, logprobs_B, open_B))
            open_B = open_B & ~torch.isin(tokens_B, self.eos)
            if self.sampling.stop:
                open_B = open_B & ~self.stopped(tokens_T, live)
            count = int(open_B.sum())
            if count == 0 or step == self.sampling.max_new_tokens - 1:
                break
            if count <= (1 - RETIRE_SHARE) * len(open_B):
                kept = open_B.nonzero().squeeze(-1)
                self.choose(kept)
                live, seeds_B, tokens_B, positions_B = live[kept], seeds_B[kept], tokens_B[kept], positions_B[kept]
                mask_B_W = None if mask_B_W is None else mask_B_W[kept]
                open_B = open_B[kept]
            if mask_B_W is not None:
                mask_B_W = torch.nn.functional.pad(mask_B_W, (0, 1), value=1)
            hidden_B_H = self.forward(tokens_B[:, None], mask_B_W, positions_B[:, None])
            positions_B = positions_B + 1
        return self.collect(tokens_T)

    def prefill(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Process each prompt once, padded on the left, and repeat its cache for each of its completions."""
        lengths = [len(request.prompt) for request in self.requests]
        width = max(lengths)
        ids = torch.zeros(len(lengths), width, dtype=torch.long)
        mask = torch.zeros(len(lengths), width, dtype=torch.long)
        for index, request in enumerate(self.requests):
            ids[index, width - lengths[index] :] = torch.tensor(request.prompt)
            mask[index, width - lengths[index] :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden_P_H = self.forward(ids, None if min(lengths) == width else mask, positions)
        groups = [len(request.seeds) for request in self.requests]
        rows = torch.arange(len(groups), device=self.device).repeat_interleave(torch.tensor(groups, device=self.device))
        if any(size != 1 for size in groups):
            self.choose(rows)
        return (
            hidden_P_H[rows],
            None if min(lengths) == width else mask[rows],
            torch.tensor(lengths, device=self.device)[rows],
        )

    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Return the hidden state of the last token of each row. Shape: (B, H)."""
        out = self.policy.backbone(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True
        )
        return out.last_hidden_state[:, -1]  # type: ignore[no-any-return]

    def choose(self, rows: Tensor) -> None:
        """Keep these rows of the cache, in this order."""
        for layer in self.cache.layers:
            if isinstance(layer, _Layer):
                layer.choose(rows)
            else:
                layer.batch_select_indices(rows)  # type: ignore[union-attr,unused-ignore]

    def stopped(self, tokens_T: list[tuple[Tensor, Tensor, Tensor, Tensor]], live: Tensor) -> Tensor:
        """Return which live rows have just completed a stop text."""
        tail = max(len(text) for text in self.sampling.stop) + STOP_TAIL
        recent: dict[int, list[int]] = {row: [] for row in live.tolist()}
        for rows, tokens, _, opened in tokens_T[-tail:]:
            for row, token, is_open in zip(rows.tolist(), tokens.tolist(), opened.tolist(), strict=True):
                if is_open and row in recent:
                    recent[row].append(token)
        texts = [self.policy.full_text(recent[row]) for row in live.tolist()]
        hit = [any(stop in text for stop in self.sampling.stop) for text in texts]
        return torch.tensor(hit, device=self.device)

    def collect(self, tokens_T: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> list[list[Completion]]:
        """Return the completions from the tokens of all steps."""
        for rows, tokens, logprobs, opened in tokens_T:
            for row, token, logprob, is_open in zip(
                rows.tolist(), tokens.tolist(), logprobs.tolist(), opened.tolist(), strict=True
            ):
                if is_open:
                    self.rows[row].tokens.append(token)
                    self.rows[row].logprobs.append(logprob)
        result: list[list[Completion]] = [[] for _ in self.requests]
        limit = self.sampling.max_new_tokens
        for row in self.rows:
            ended = row.tokens[-1] in self.policy.eos_ids or len(row.tokens) < limit or self.ends_in_stop(row.tokens)
            result[row.request].append(
                Completion(tuple(row.tokens), tuple(row.logprobs), "stop" if ended else "length")
            )
        return result

    def ends_in_stop(self, tokens: list[int]) -> bool:
        """Return whether the last token completed a stop text."""
        if not self.sampling.stop:
            return False
        tail = max(len(text) for text in self.sampling.stop) + STOP_TAIL
        text = self.policy.full_text(tokens[-tail:])
        return any(stop in text for stop in self.sampling.stop)


def draw(logits_B_V: Tensor, sampling: Sampling, seeds_B: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Draw the next token of each row by inverting the cumulative distribution.

    Args:
        logits_B_V: Logits in fp32.
        sampling: Temperature, top-p and top-k.
        seeds_B: One seed per row, int64.
        step: Position of the token in the completion, from 0.

    Returns:
        Tokens, of shape (B,), and their log-probabilities, of shape (B,), at the temperature (at 1 if it is 0), before top-p and top-k.
    """
    if sampling.temperature not in {0.0, 1.0}:
        logits_B_V = logits_B_V / sampling.temperature
    masses_B_V = logits_B_V.softmax(-1)
    if sampling.temperature == 0:
        tokens_B = logits_B_V.argmax(-1)
    else:
        kept_B_V = _truncated(masses_B_V, sampling)
        tokens_B = _invert(kept_B_V, uniform(seeds_B, step))
    # A drawn token has a probability above 0, whose logarithm is as exact as that of the sum that it is divided by.
    return tokens_B, masses_B_V.gather(-1, tokens_B[:, None]).squeeze(-1).log()


def _invert(masses_B_V: Tensor, shares_B: Tensor) -> Tensor:
    """Return the words at which the cumulative masses exceed these shares of the total.

    Of a large vocabulary only the masses of the block that the word is in are accumulated, which takes less time and rounds less.
    """
    words = masses_B_V.shape[1]
    if words <= 4 * BLOCK:
        cumulative_B_V = masses_B_V.cumsum(-1)
        return _first_above(cumulative_B_V, shares_B * cumulative_B_V[:, -1])
    whole = words - words % BLOCK
    blocks = [
        masses_B_V[:, :whole].reshape(len(masses_B_V), -1, BLOCK).sum(-1),
        masses_B_V[:, whole:].sum(-1, keepdim=True),
    ]
    sums_B_K = torch.cat(blocks, dim=1)
    cumulative_B_K = sums_B_K.cumsum(-1)
    threshold_B = shares_B * cumulative_B_K[:, -1]
    block_B_1 = _first_above(cumulative_B_K, threshold_B)[:, None]
    rest_B = threshold_B - (cumulative_B_K - sums_B_K).gather(1, block_B_1).squeeze(1)
    places_B_N = block_B_1 * BLOCK + torch.arange(BLOCK, device=masses_B_V.device)
    inner_B_N = masses_B_V.gather(1, places_B_N.clamp(max=words - 1)).masked_fill(places_B_N >= words, 0)
    return (block_B_1.squeeze(1) * BLOCK + _first_above(inner_B_N.cumsum(-1), rest_B)).clamp(max=words - 1)


def _first_above(cumulative_B_N: Tensor, threshold_B: Tensor) -> Tensor:
    """Return the first place at which cumulative masses exceed a threshold. It always has a mass."""
    found_B = torch.searchsorted(cumulative_B_N, threshold_B[:, None], right=True)
    # If rounding puts the threshold on the total, take the place with which the total is reached.
    last_B = torch.searchsorted(cumulative_B_N, cumulative_B_N[:, -1:].contiguous())
    # Logits that are NaN, of which the trainer tells, have no such place.
    return torch.minimum(found_B, last_B).squeeze(-1).clamp(max=cumulative_B_N.shape[1] - 1)


def _truncated(masses_B_V: Tensor, sampling: Sampling) -> Tensor:
    """Set the probabilities outside of top-k and top-p to 0."""
    if 0 < sampling.top_k < masses_B_V.shape[1]:
        least_B_1 = masses_B_V.topk(sampling.top_k, dim=-1).values[:, -1:]
        masses_B_V = masses_B_V.where(masses_B_V >= least_B_1, 0)
    if sampling.top_p < 1:
        ordered_B_V, order_B_V = masses_B_V.sort(dim=-1, descending=True)
        before_B_V = ordered_B_V.cumsum(-1) - ordered_B_V
        kept_B_V = before_B_V < sampling.top_p * masses_B_V.sum(-1, keepdim=True)
        masses_B_V = torch.zeros_like(masses_B_V).scatter(-1, order_B_V, ordered_B_V.where(kept_B_V, 0))
    return masses_B_V


def uniform(seeds_B: Tensor, step: int) -> Tensor:
    """Return numbers in [0, 1) that depend on seed and step alone (SplitMix64, https://doi.org/10.1145/2714064.2660195)."""
    offset = (step + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    mixed_B = _mix(_mix(seeds_B) + _signed(offset))
    return _shift(mixed_B, 40).float() * 2.0**-24


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _signed(0xBF58476D1CE4E5B9)
    value = (value ^ _shift(value, 27)) * _signed(0x94D049BB133111EB)
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, which torch can't do for int64."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Return the int64 with the bits of an unsigned number."""
    return value - (1 << 64) if value >= 1 << 63 else value
