"""Direct preference optimisation: a policy learns from pairs what others preferred, held near the model it starts from.

That model is the reference. Its log-probabilities never change, so they are worked out once, by the policy before its first
step, and no second model is held in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rewardkit.errors import DataError
from rewardkit.train.config import DpoConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.batching import micro_batches
from rewardkit.train.data.preference_pairs import AnswerPair, AnswerRenderer, read_pairs
from rewardkit.train.data.rows import Row
from rewardkit.train.evaluation.statistics import wilson
from rewardkit.train.losses.preference import DPOLoss, dpo, sequence_logprobs
from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.policy import Passage, Policy
from rewardkit.train.run_folder import FINAL
from rewardkit.train.trainer.run import Run
from rewardkit.train.trainer.supervised import SupervisedTask, train_supervised


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
    policy = Policy.load(config.model, file.where("model", "path"), seed=config.seed, shard=config.shard)
    limit = config.token_limit(policy.context)
    train = load_pairs(config, policy, train_rows, limit)
    held_out = load_pairs(config, policy, held_out_rows, limit) if held_out_rows else []
    left_out = len(train_rows) + len(held_out_rows) - len(train) - len(held_out)
    facts = {"pairs": len(train), "pairs_held_out": len(held_out), "pairs_too_long": left_out}
    with Run.open(file, config.total_steps(len(train)), facts) as run:
        if left_out:
            run.console.message(f"{left_out} pairs have an answer of more than {limit} tokens and are left out")
        run.console.message(f"working out what the reference says of {2 * (len(train) + len(held_out))} answers")
        train_supervised(run, DpoTask(config, policy, train, held_out), config)
        return run.save_model(policy.save, FINAL)


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


class DpoTask(SupervisedTask):
    """A policy that learns to prefer what was preferred, beside what it was when this was made."""

    name = "policy"
    stats_per_row = 3

    def __init__(
        self, config: DpoConfig, policy: Policy, train: Sequence[AnswerPair], held_out: Sequence[AnswerPair]
    ) -> None:
        self.config = config
        self.policy = policy
        self.train = train
        self.held_out = held_out
        self.rows: Sequence[int] = []
        switch_off_dropout(policy.model)
        policy.model.train()
        self.references = self._references(train)
        self.held_out_references = self._references(held_out)

    @property
    def model(self) -> Policy:
        """The model."""
        return self.policy

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [pair.tokens for pair in self.train]

    def set_batch(self, rows: Sequence[int]) -> None:
        """Take the rows of a step."""
        self.rows = rows

    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Mean loss; noted are loss and rewards of each pair."""
        found = self._loss(self.train, self.references, [self.rows[index] for index in part])
        return found.loss_P.sum() / len(self.rows), _noted(found)

    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """For the log."""
        return figures(stats_B_N)

    def evaluate(self) -> dict[str, float]:
        """Loss, accuracy with its interval, and rewards on the held-out pairs."""
        if not self.held_out:
            return {}
        stats_P_3 = torch.zeros(len(self.held_out), self.stats_per_row)
        with torch.no_grad():
            for part in self._parts(self.held_out):
                stats_P_3[part] = _noted(self._loss(self.held_out, self.held_out_references, part)).cpu()
        found = figures(stats_P_3)
        interval = wilson(round(found["accuracy"] * len(stats_P_3)), len(stats_P_3))
        return {**found, "accuracy_low": interval.low, "accuracy_high": interval.high}

    def save(self, folder: Path) -> None:
        """Write a folder that transformers loads."""
        self.policy.save(folder)

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


def _noted(found: DPOLoss) -> Tensor:
    return torch.stack([found.loss_P, found.chosen_rewards_P, found.rejected_rewards_P], dim=1)


def figures(stats_P_3: Tensor) -> dict[str, float]:
    """Loss, accuracy, margin and rewards from (loss, reward of the chosen, reward of the rejected) of each pair.

    Before the first step all rewards are 0: a tie is half a success.
    """
    loss_P, chosen_P, rejected_P = stats_P_3.unbind(1)
    return {
        "loss": float(loss_P.mean()),
        "accuracy": float(((chosen_P - rejected_P).sign() / 2 + 0.5).mean()),
        "margin": float((chosen_P - rejected_P).mean()),
        "chosen_reward": float(chosen_P.mean()),
        "rejected_reward": float(rejected_P.mean()),
    }
