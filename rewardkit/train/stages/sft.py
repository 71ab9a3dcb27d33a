"""Supervised fine-tuning: next-token cross-entropy on response tokens.

The loss of a step is Σ weight × −log p over its tokens. The weights are computed from the whole batch, so micro-batches and packing do
not change the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rewardkit.errors import ConfigError, DataError
from rewardkit.train.config import SftConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.batching import PackedRows
from rewardkit.train.data.mixture import source_counts
from rewardkit.train.data.rows import iterate_rows
from rewardkit.train.data.stored_rows import StoredRows, rendering_key, stored_rows
from rewardkit.train.data.token_weights import SpanWeighter
from rewardkit.train.data.tokenization import Example, Renderer
from rewardkit.train.data.turn_end import endless_response_problem
from rewardkit.train.data.weight_functions import span_weighters
from rewardkit.train.models.packing import resolve_packing
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.run_folder import FINAL, TOKENS
from rewardkit.train.trainer.run import Run
from rewardkit.train.trainer.supervised import SupervisedTask, train_supervised


def train_sft(file: TrainFile) -> Path:
    """Run the stage.

    Args:
        file: The configuration.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The model does not exist, or would not learn to end its responses.
        DataError: The data can't be used.
        OutputError: The run's folder can't be written.
        Interrupted: The run was interrupted; it can be resumed.
    """
    config = file.config_as(SftConfig)
    weighters = span_weighters(file)
    policy = Policy.load(config.model, file.where("model", "path"), seed=config.seed, sharded=config.fsdp)
    policy.packing = resolve_packing(policy, config.packing, file.where("packing"))
    train = load_examples(file, policy, weighters, "train")
    held_out = load_examples(file, policy, weighters, "eval") if config.data.eval else []
    left_out = train.facts["left_out"]
    with Run.open(file, config.total_steps(len(train)), {"rows": len(train), "rows_too_long": left_out}) as run:
        if left_out:
            limit = config.token_limit(policy.context)
            run.console.message(
                f"{left_out} of {left_out + len(train)} rows are longer than {limit} tokens and are left out"
            )
        task = SftTask(config, policy, train, held_out)
        train_supervised(run, task, config, shuffle=config.data.shuffle, sources=train.facts["sources"])
        return run.save_model(policy.save, FINAL)


class SftTask(SupervisedTask):
    """Trains a policy on examples."""

    name = "policy"
    stats_per_row = 1

    def __init__(
        self, config: SftConfig, policy: Policy, train: Sequence[Example], held_out: Sequence[Example]
    ) -> None:
        self.config = config
        self.policy = policy
        self.train = train
        self.held_out = held_out
        self.batch: list[Example] = []
        self.weights: list[Tensor] = []
        """The loss weights of each example's tokens."""
        self._lengths = train.sizes("tokens") if isinstance(train, StoredRows) else [len(row.tokens) for row in train]

    @property
    def model(self) -> Policy:
        """The model that is trained."""
        return self.policy

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each training row."""
        return self._lengths

    def packed_rows(self, rows: Sequence[int]) -> PackedRows | None:
        """Return the sequences of some training rows if they are packed; otherwise None."""
        return self.policy.packed_rows([[self._lengths[row]] for row in rows])

    def set_batch(self, rows: Sequence[int]) -> None:
        """Set the rows of the next step."""
        self.batch = [self.train[row] for row in rows]
        self.weights = loss_weights(self.batch, self.config.loss.reduction)

    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Return the weighted −log p of the tokens, and that of each row."""
        passages = [TokenSpan(self.batch[row].tokens, self.batch[row].start) for row in part]
        judged = self.policy.forward_logprobs(passages, packed=self.policy.packing)
        weights_B_T = torch.nn.utils.rnn.pad_sequence([self.weights[row] for row in part], batch_first=True)
        loss_B = -(judged.logprobs_B_T * weights_B_T.to(self.policy.device)).sum(1)
        return loss_B.sum(), loss_B[:, None]

    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Return the metrics of a step."""
        return {"loss": float(stats_B_N.sum())}

    def evaluate(self) -> dict[str, float]:
        """Return the metrics of the held-out rows."""
        return evaluate(self.policy, self.held_out, self.config.micro_batch_tokens) if self.held_out else {}

    def save(self, folder: Path) -> None:
        """Save the model as a folder that transformers loads."""
        self.policy.save(folder)


def load_examples(
    file: TrainFile, policy: Policy, weighters: Sequence[SpanWeighter], name: Literal["train", "eval"]
) -> StoredRows[Example]:
    """Read and render the data without the rows that are too long. The fact ``left_out`` is their number.

    Args:
        file: The configuration.
        policy: The model whose tokenizer and context are used.
        weighters: The functions that weigh the response tokens.
        name: The key of the data in the section ``data``.

    Raises:
        ConfigError: The model would not learn to end its responses.
        DataError: A row can't be used, or all rows are too long.
        OutputError: The run's folder can't be written.
    """
    config = file.config_as(SftConfig)
    files, limit = getattr(config.data, name), config.token_limit(policy.context)

    def render(facts: dict[str, Any]) -> Iterator[Example]:
        renderer = Renderer(policy.tokenizer, config.data, end_ids=policy.eos_ids)
        sources: list[int] = []
        left_out = 0
        for row in iterate_rows(paths(files)):
            for item in renderer.examples(row, weighters):
                if len(item.tokens) > limit or not any(item.weights):
                    left_out += 1
                    continue
                if problem := endless_response_problem([item], policy.tokenizer, policy.eos_ids):
                    raise ConfigError((file.where("model", "path"), problem))
                sources.append(row.source)
                yield item
        if not sources:
            raise DataError(f"none of {left_out} examples has weight and fits into {limit} tokens; see max_tokens")
        facts |= {"left_out": left_out, "sources": source_counts(config.data, sources)}

    def key() -> dict[str, Any]:
        weights = [entry.model_dump(mode="json") for entry in config.loss.weights]
        ends = sorted(policy.eos_ids)
        return rendering_key(config.data, files, policy.tokenizer, limit=limit, weights=weights, ends=ends)

    has_plugins = any(entry.use is not None for entry in config.loss.weights)  # whose code the key does not cover
    return stored_rows(config.output / TOKENS, name, Example, None if has_plugins else key, render)


def loss_weights(
    batch: Sequence[Example], reduction: Literal["token", "sequence_mean", "sequence_sum"]
) -> list[torch.Tensor]:
    """Return the weights of each token's −log p whose weighted sum is the loss of the batch."""
    weights = [torch.tensor(row.weights) for row in batch]
    match reduction:
        case "token":
            total = sum(float(item.sum()) for item in weights)
            return [item / total for item in weights]
        case "sequence_mean":
            return [item / (item.sum() * len(batch)) for item in weights]
        case "sequence_sum":
            return [item / len(batch) for item in weights]


def evaluate(policy: Policy, examples: Sequence[Example], most_tokens: int) -> dict[str, float]:
    """Return loss per token, perplexity and greedy token accuracy on held-out examples. Each process computes its share.

    Args:
        policy: The policy.
        examples: The examples.
        most_tokens: The largest number of tokens of a micro-batch.
    """

    def compute(part: list[int]) -> Tensor:
        logprobs_B_T, likeliest_B_T = policy.forward_greedy(
            [TokenSpan(examples[row].tokens, examples[row].start) for row in part], packed=policy.packing
        )
        counts = [torch.tensor(examples[row].weights) > 0 for row in part]
        counts_B_T = torch.nn.utils.rnn.pad_sequence(counts, batch_first=True).to(logprobs_B_T.device)
        loss_B = -(logprobs_B_T * counts_B_T).sum(1)
        return torch.stack([loss_B, (likeliest_B_T & counts_B_T).sum(1).float()], dim=1)

    lengths = [len(row.tokens) for row in examples]
    packed = policy.packed_rows([[length] for length in lengths])
    stats_B_2 = policy.compute_rows(compute, torch.zeros(len(examples), 2), lengths, most_tokens, packed)
    count = max(sum(weight > 0 for row in examples for weight in row.weights), 1)
    total, likeliest = stats_B_2.double().sum(0).tolist()
    loss = total / count
    return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "token_accuracy": likeliest / count}
