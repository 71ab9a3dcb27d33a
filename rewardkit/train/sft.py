"""Supervised fine-tuning: next-token cross-entropy on response tokens.

The loss of a step is Σ weight × −log p over its tokens, with weights that come from the whole batch: micro-batches and packing
do not change it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from rewardkit.errors import DataError
from rewardkit.train import parallel
from rewardkit.train.config import SftConfig, paths
from rewardkit.train.data import Example, Order, Renderer, micro_batches
from rewardkit.train.optim import Optimizer, learning_rate
from rewardkit.train.policy import Passage, Policy
from rewardkit.train.rows import read_rows
from rewardkit.train.run import FINAL, Run
from rewardkit.train.stages import TrainFile


def train_sft(file: TrainFile) -> Path:
    """Run the stage; returns the folder of the trained model.

    Raises:
        ConfigError: There is no such model.
        DataError: The data can't be used.
        OutputError: The run can't be written down.
        Interrupted: Somebody asked it to end; it can go on.
    """
    config = file.config
    assert isinstance(config, SftConfig)  # noqa: S101 - for the type checker
    policy = Policy.load(config.model, file.where("model", "path"), seed=config.seed)
    train, left_out = load_examples(config, policy, config.data.train)
    held_out, _ = load_examples(config, policy, config.data.eval) if config.data.eval else ([], 0)
    total = config.steps or math.ceil((config.epochs or 1) * len(train) / config.batch_size)
    files = [*paths(config.data.train), *paths(config.data.eval)]
    with Run.open(config, total, files, {"rows": len(train), "rows_too_long": left_out}) as run:
        if left_out:
            run.view.say(
                f"{left_out} of {left_out + len(train)} rows are longer than {token_limit(config, policy)} tokens and left out"
            )
        optimizer = Optimizer(policy.trained, config.optimizer, total)
        parts = {"policy": (policy.trained, optimizer)}
        order = Order(len(train), config.seed, shuffle=config.data.shuffle)
        micro, first = config.micro_batch_tokens, 0
        if (latest := run.checkpoints.latest()) is not None:
            first = run.checkpoints.restore(latest, parts)["step"]
            run.view.resumed(first)
        run.rewind(first)
        policy.model.train()
        for step in run.steps(first):
            began = time.monotonic()
            batch = [train[index] for index in order.take(step * config.batch_size, config.batch_size)]
            losses = torch.zeros(len(batch))
            weights = loss_weights(batch, config.loss.reduction)

            def backward(
                part: list[int],
                batch: Sequence[Example] = batch,
                weights: Sequence[torch.Tensor] = weights,
                losses: torch.Tensor = losses,
            ) -> None:
                judged = policy.judge(
                    [Passage(batch[row].tokens, batch[row].start) for row in part], packed=config.packing
                )
                weights_B_T = torch.nn.utils.rnn.pad_sequence([weights[row] for row in part], batch_first=True).to(
                    policy.device
                )
                loss_B = -(judged.logprobs_B_T * weights_B_T).sum(1)
                loss_B.sum().backward()  # type: ignore[no-untyped-call]
                losses[part] = loss_B.detach().cpu()

            micro = optimizer.accumulate([len(row.tokens) for row in batch], micro, backward)
            norm = optimizer.step(step)
            tokens = sum(len(row.tokens) for row in batch)
            seconds = time.monotonic() - began
            done = step + 1
            run.log(
                done,
                {
                    "loss": float(parallel.added(losses).sum()),
                    "grad_norm": norm,
                    "lr": learning_rate(config.optimizer, step, total),
                    "tokens": tokens,
                    "tokens_per_s": tokens / seconds,
                    "seconds": seconds,
                },
            )
            if held_out and run.is_due(done, config.evaluate.every):
                run.log(done, evaluate(policy, held_out, config.micro_batch_tokens), kind="eval")
            stop = run.must_stop()
            if stop or run.is_due(done, config.checkpoint.every):
                run.checkpoints.save(done, parts, {})
            if stop and done < total:
                raise run.interrupted(done)
        return run.save_model(policy, FINAL)


def token_limit(config: SftConfig, policy: Policy) -> int:
    """The most tokens that a row may have."""
    return min(config.max_tokens or policy.context, policy.context)


def load_examples(config: SftConfig, policy: Policy, files: Path | Sequence[Path] | None) -> tuple[list[Example], int]:
    """Read and render the data; rows that are too long are left out, and counted.

    Raises:
        DataError: A row can't be used, or all are too long.
    """
    renderer = Renderer(policy.tokenizer, config.data)
    examples = [item for row in read_rows(paths(files)) for item in renderer.examples(row, config.loss.weights)]
    limit = token_limit(config, policy)
    kept = [item for item in examples if len(item.tokens) <= limit and any(item.weights)]
    if not kept:
        raise DataError(f"none of {len(examples)} examples has weight and fits into {limit} tokens; see max_tokens")
    return kept, len(examples) - len(kept)


def loss_weights(
    batch: Sequence[Example], reduction: Literal["token", "sequence_mean", "sequence_sum"]
) -> list[torch.Tensor]:
    """What each token's −log p is multiplied by, so that their sum is the loss of the batch."""
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
    """Loss per token, perplexity, and share of tokens that the model would have chosen itself, on held-out examples."""
    total = likeliest = 0.0
    count = 0
    was_training = policy.model.training
    policy.model.eval()
    with torch.no_grad():
        for part in micro_batches([len(row.tokens) for row in examples], most_tokens):
            rows = [Passage(examples[index].tokens, examples[index].start) for index in part]
            judged = policy.judge(rows)
            mask_B_T = torch.zeros_like(judged.mask_B_T)
            for position, index in enumerate(part):
                mask_B_T[position, : rows[position].length] = (
                    torch.tensor(examples[index].weights, device=policy.device) > 0
                )
            total -= float(judged.logprobs_B_T[mask_B_T].sum())
            targets_N = torch.tensor([token for row in rows for token in row.tokens[row.start :]], device=policy.device)
            right_N = policy.next_logits(judged.hidden_N_H).argmax(-1) == targets_N
            likeliest += float((right_N & mask_B_T[judged.mask_B_T]).sum())
            count += int(mask_B_T.sum())
    policy.model.train(was_training)
    loss = total / max(count, 1)
    return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "token_accuracy": likeliest / max(count, 1)}
