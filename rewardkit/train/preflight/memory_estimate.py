"""Estimates how much memory a process of a training run needs at most. Pure functions of sizes; ``memory_trace`` measures these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

GIB = 2**30
FLOAT32 = 4
HF_LOGITS = 4
"""Copies of the logits of one sampled token, in float32: logits at the temperature, probabilities, and their sums."""
TILE = 32 * 2**20
"""Bytes of a tile of logits with its temporary tensors, on a CPU."""
CUDA_OVERHEAD = 0.1
"""Memory of a GPU that torch holds in addition to what is used, as a share of the activations."""
HEAP_OVERHEAD = 0.2
"""The same of main memory: the C library keeps freed activations as holes between others, which only smaller tensors fit into, since torch
aligns them. Fitted to peaks of runs; without holes (``MALLOC_MMAP_THRESHOLD_=1000000``) peaks are what is used."""
HEAP_OVERHEAD_ADAPTERS = 0.8
"""The same with adapters, which make more short-lived tensors between those that are kept for the backward pass."""
CUDA_CONTEXT = 0.6 * GIB
"""Memory of a GPU that CUDA and its libraries take."""


@dataclass(frozen=True, slots=True)
class RowLengths:
    """The lengths of the training rows in tokens."""

    whole: Sequence[int]
    """Of each row, with the longest completion that may be sampled; of both answers of a pair."""
    scored: int
    """The most tokens of a row that get log-probabilities."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The shape of the largest micro-batch."""

    rows: int
    length: int
    """Number of tokens of a row."""
    scored: int
    """Number of tokens of a row that get log-probabilities."""

    @property
    def tokens(self) -> int:
        """Number of tokens of the micro-batch."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model, in bytes and numbers."""

    held: int
    """Bytes of all weights."""
    trained: int
    """Number of trained weights."""
    largest_layer: int = 0
    """Bytes of the largest layer."""
    outside: int = 0
    """Bytes of weights outside of the layers."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The parts of the peak memory of a process, in bytes, by name."""

    static: Mapping[str, int]
    """Parts that exist during the whole run."""
    phases: Mapping[str, Mapping[str, int]]
    """Parts that exist during one phase of a step, by phase."""

    @property
    def largest_phase(self) -> str:
        """The phase with the most memory."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def peak_parts(self) -> dict[str, int]:
        """The parts that exist at the peak, without empty ones."""
        parts = {**self.static, **self.phases[self.largest_phase]}
        return {name: size for name, size in parts.items() if size > 0}

    @property
    def peak(self) -> int:
        """The most memory of the process, in bytes."""
        return sum(self.peak_parts.values())


def largest_micro_batch(lengths: Sequence[int], scored: int, rows: int, most_tokens: int) -> MicroBatch:
    """Return the shape of the largest micro-batch that a process may get.

    Args:
        lengths: The number of tokens of each row of the data.
        scored: The most tokens of a row that get log-probabilities.
        rows: The number of rows of an optimizer step that the process takes.
        most_tokens: The largest number of tokens of a micro-batch, padding included.
    """
    longest = max(lengths)
    typical = sorted(lengths)[len(lengths) // 2]
    whole = max(1, min(rows, most_tokens // longest))
    filled = min(most_tokens // typical, rows) * typical  # shorter rows may fill the limit better
    return MicroBatch(max(whole, filled // longest), longest, min(scored, longest))


def moment_bytes(trained: int, kind: Literal["adamw", "adamw_foreach", "adamw_8bit"] = "adamw") -> int:
    """Return the bytes of AdamW's two moments.

    Args:
        trained: Number of trained weights.
        kind: The optimizer. That of 8 bits has scales besides, one number per 256 weights and moment.
    """
    return math.ceil(trained * 2 * (1 + FLOAT32 / 256)) if kind == "adamw_8bit" else 2 * FLOAT32 * trained


def step_bytes(trained: int, kind: Literal["adamw", "adamw_foreach", "adamw_8bit"] = "adamw") -> int:
    """Return the bytes of temporary tensors of an optimizer step: batched operations hold one number per trained weight.

    Args:
        trained: Number of trained weights.
        kind: The optimizer.
    """
    return FLOAT32 * trained if kind == "adamw_foreach" else 0


def head_bytes(
    tokens: int,
    width: int,
    vocabulary: int,
    *,
    compute: int,
    budget: int,
    plain: int,
    trains_head: bool,
    is_lent: bool,
) -> int:
    """Return the bytes that the log-probabilities of a micro-batch need.

    Args:
        tokens: Number of tokens that get log-probabilities.
        width: The width of hidden states.
        vocabulary: Number of words.
        compute: Bytes of a number in the compute type.
        budget: The most bytes of logits that exist at the same time.
        plain: The most logits that are computed at once, by plain operations, which make further tensors of their size. More logits
            are computed in tiles.
        trains_head: Whether the output embedding is trained: logits in tiles are then kept for the backward pass, in the compute type, as
            far as the budget allows.
        is_lent: Whether the output embedding has the compute type already, so that no copy is made.
    """
    if tokens * vocabulary <= plain:
        logits = 4 * FLOAT32 * tokens * vocabulary
    else:
        logits = TILE + (min(tokens * vocabulary, budget // FLOAT32) * compute if trains_head else 0)
    hidden = tokens * width * (2 * compute + 2 * FLOAT32)
    copy = 0 if is_lent else compute * vocabulary * width
    return logits + hidden + copy


def sampling_bytes(rows: int, length: int, cache_per_token: int, vocabulary: int, *, compute: int) -> dict[str, int]:
    """Return the bytes that the engine ``hf`` needs while it samples.

    Args:
        rows: Number of completions that are sampled at once.
        length: Number of tokens of a prompt with its completion.
        cache_per_token: Number of keys and values that a token adds to the cache.
        vocabulary: Number of words.
        compute: Bytes of a number in the compute type.
    """
    return {
        "generation cache": rows * length * cache_per_token * compute,
        "logits of sampled tokens": rows * vocabulary * FLOAT32 * HF_LOGITS,
    }


def held_by_process(weights: Weights, processes: int, *, sharded: bool) -> int:
    """Return the bytes of weights that a process holds during an update, gathered layers included.

    Args:
        weights: The weights.
        processes: Number of processes.
        sharded: Whether the weights are divided among them. The next layer is then gathered while one computes.
    """
    if not sharded or processes == 1:
        return weights.held
    return weights.held // processes + weights.outside + 2 * weights.largest_layer


def per_process(number: int, processes: int, *, sharded: bool) -> int:
    """Return the part of a number of weights that a process trains.

    Args:
        number: Number of weights.
        processes: Number of processes.
        sharded: Whether the weights are divided among them.
    """
    return math.ceil(number / processes) if sharded else number


def format_bytes(size: int) -> str:
    """Return a size for people, in GB or MB of 1000s.

    Args:
        size: Number of bytes.
    """
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
