"""Direct preference optimisation: a policy learns from pairs what others preferred, held near the model it starts from.

That model is the reference. Its log-probabilities never change, so they are worked out once, by the policy before its first
step, and no second model is held in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rewardkit.errors import DataError
from rewardkit.train.config import DpoConfig, paths
from rewardkit.train.data import Order, micro_batches
from rewardkit.train.dropout import switch_off_dropout
from rewardkit.train.math.metrics import wilson
from rewardkit.train.math.preference import DPOLoss, dpo, sequence_logprobs
from rewardkit.train.optim import Optimizer, learning_rate
from rewardkit.train.pairs import AnswerPair, AnswerRenderer, read_pairs
from rewardkit.train.policy import Passage, Policy
from rewardkit.train.rows import Row
from rewardkit.train.run import FINAL, Run
from rewardkit.train.stages import TrainFile


def train_dpo(file: TrainFile) -> Path:
    """Run the stage; returns the folder of the trained model.

    Raises:
        ConfigError: There is no such model.
        DataError: The data can't be used.
        OutputError: The run can't be written down.
        Interrupted: Somebody asked it to end; it can go on.
    """
    config = file.config
    assert isinstance(config, DpoConfig)  # noqa: S101 - for the type checker
    train_rows, held_out_rows = read_pairs(config.data)
    policy = Policy.load(config.model, file.where("model", "path"))
    limit = min(config.max_tokens or policy.context, policy.context)
    train = load_pairs(config, policy, train_rows, limit)
    held_out = load_pairs(config, policy, held_out_rows, limit) if held_out_rows else []
    left_out = len(train_rows) + len(held_out_rows) - len(train) - len(held_out)
    total = config.steps or math.ceil((config.epochs or 1) * len(train) / config.batch_size)
    files = [*paths(config.data.train), *paths(config.data.eval)]
    facts = {"pairs": len(train), "pairs_held_out": len(held_out), "pairs_too_long": left_out}
    with Run.open(config, total, files, facts) as run:
        if left_out:
            run.view.say(f"{left_out} pairs have an answer of more than {limit} tokens and are left out")
        run.view.say(f"working out what the reference says of {2 * (len(train) + len(held_out))} answers")
        learner = DpoLearner(config, policy, train, held_out)
        optimizer = Optimizer(policy.trained, config.optimizer, total)
        parts = {"policy": (policy.trained, optimizer)}
        order = Order(len(train), config.seed)
        micro, first = config.micro_batch_tokens, 0
        if (latest := run.checkpoints.latest()) is not None:
            first = run.checkpoints.restore(latest, parts)["step"]
            run.view.resumed(first)
        run.rewind(first)
        if held_out and first == 0:
            run.log(0, learner.evaluate(), kind="eval")
        for step in run.steps(first):
            began = time.monotonic()
            rows = list(order.take(step * config.batch_size, config.batch_size))
            noted = torch.zeros(len(rows), 3)

            def backward(part: list[int], rows: list[int] = rows, noted: Tensor = noted) -> None:
                found = learner.loss([rows[index] for index in part])
                (found.loss_P.sum() / len(rows)).backward()  # type: ignore[no-untyped-call]
                noted[part] = torch.stack(
                    [found.loss_P.detach(), found.chosen_rewards_P, found.rejected_rewards_P], dim=1
                ).cpu()

            micro = optimizer.accumulate([train[row].tokens for row in rows], micro, backward)
            norm = optimizer.step(step)
            seconds = time.monotonic() - began
            done = step + 1
            run.log(
                done,
                {
                    **figures(noted),
                    "grad_norm": norm,
                    "lr": learning_rate(config.optimizer, step, total),
                    "tokens_per_s": sum(train[row].tokens for row in rows) / seconds,
                    "seconds": seconds,
                },
            )
            if held_out and run.is_due(done, config.evaluate.every):
                run.log(done, learner.evaluate(), kind="eval")
            if run.stop or run.is_due(done, config.checkpoint.every):
                run.checkpoints.save(done, parts, {})
            if run.stop and done < total:
                raise run.interrupted(done)
        return run.save_model(policy, FINAL)


def load_pairs(config: DpoConfig, policy: Policy, rows: Sequence[Row], limit: int) -> list[AnswerPair]:
    """Render the pairs; those with an answer that is too long are left out.

    Raises:
        DataError: A row can't be used, or all are too long.
    """
    renderer = AnswerRenderer(policy.tokenizer, config.data)
    pairs = [renderer.pair(row) for row in rows]
    kept = [pair for pair in pairs if pair.tokens <= 2 * limit]
    if not kept:
        raise DataError(f"none of {len(pairs)} pairs fits into {limit} tokens; see max_tokens")
    return kept


@dataclass(frozen=True, slots=True)
class References:
    """Log-probabilities of the answers under the reference, one of each pair."""

    chosen_P: Tensor
    rejected_P: Tensor


class DpoLearner:
    """Losses of pairs under a policy, beside what it was when this was made."""

    def __init__(
        self, config: DpoConfig, policy: Policy, train: Sequence[AnswerPair], held_out: Sequence[AnswerPair]
    ) -> None:
        self.config = config
        self.policy = policy
        self.train = train
        self.held_out = held_out
        switch_off_dropout(policy.model)
        policy.model.train()
        self.references = self._references(train)
        self.held_out_references = self._references(held_out)

    def loss(self, rows: Sequence[int]) -> DPOLoss:
        """Losses of some pairs to train on, with gradient."""
        return self._loss(self.train, self.references, rows)

    def evaluate(self) -> dict[str, float]:
        """Loss, accuracy with its interval, and rewards on the held-out pairs."""
        noted = torch.zeros(len(self.held_out), 3)
        with torch.no_grad():
            for part in self._parts(self.held_out):
                pairs = self._loss(self.held_out, self.held_out_references, part)
                noted[part] = torch.stack([pairs.loss_P, pairs.chosen_rewards_P, pairs.rejected_rewards_P], dim=1).cpu()
        found = figures(noted)
        interval = wilson(round(found["accuracy"] * len(noted)), len(noted))
        return {**found, "accuracy_low": interval.low, "accuracy_high": interval.high}

    def _loss(self, pairs: Sequence[AnswerPair], references: References, rows: Sequence[int]) -> DPOLoss:
        chosen_P, rejected_P = self._logprobs([pairs[row] for row in rows])
        device = chosen_P.device
        return dpo(
            chosen_P,
            rejected_P,
            references.chosen_P[list(rows)].to(device),
            references.rejected_P[list(rows)].to(device),
            beta=self.config.beta,
            kind=self.config.loss,
            label_smoothing=self.config.label_smoothing,
        )

    def _logprobs(self, pairs: Sequence[AnswerPair]) -> tuple[Tensor, Tensor]:
        answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        judged = self.policy.judge([Passage(answer.tokens, answer.start) for answer in answers])
        counts = [torch.tensor(answer.weights) > 0 for answer in answers]
        counts_B_T = torch.nn.utils.rnn.pad_sequence(counts, batch_first=True).to(judged.logprobs_B_T.device)
        summed_B = sequence_logprobs(judged.logprobs_B_T, counts_B_T, average=self.config.loss == "ipo")
        chosen_P, rejected_P = summed_B.chunk(2)
        return chosen_P, rejected_P

    def _references(self, pairs: Sequence[AnswerPair]) -> References:
        chosen_P, rejected_P = torch.zeros(len(pairs)), torch.zeros(len(pairs))
        with torch.no_grad():
            for part in self._parts(pairs):
                chosen, rejected = self._logprobs([pairs[row] for row in part])
                chosen_P[part], rejected_P[part] = chosen.cpu(), rejected.cpu()
        return References(chosen_P, rejected_P)

    def _parts(self, pairs: Sequence[AnswerPair]) -> list[list[int]]:
        return micro_batches([pair.tokens for pair in pairs], self.config.micro_batch_tokens)


def figures(noted_P_3: Tensor) -> dict[str, float]:
    """Loss, accuracy, margin and rewards from (loss, reward of the chosen, reward of the rejected) of each pair.

    Before the first step all rewards are 0: a tie is half a success.
    """
    loss_P, chosen_P, rejected_P = noted_P_3.unbind(1)
    return {
        "loss": float(loss_P.mean()),
        "accuracy": float(((chosen_P - rejected_P).sign() / 2 + 0.5).mean()),
        "margin": float((chosen_P - rejected_P).mean()),
        "chosen_reward": float(chosen_P.mean()),
        "rejected_reward": float(rejected_P.mean()),
    }
