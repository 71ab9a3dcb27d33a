"""Direct preference optimisation (DPO, https://arxiv.org/abs/2305.18290): a policy is trained on preference pairs.

The reference model is the policy before its first step. Its log-probabilities never change, so they are computed once, and no second
model is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardkit.errors import ConfigError, DataError
from rewardkit.train.config import DpoConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.batching import PackedRows
from rewardkit.train.data.mixture import source_counts
from rewardkit.train.data.preference_pairs import AnswerPair, AnswerRenderer, pair_lengths, read_pairs
from rewardkit.train.data.rows import Row
from rewardkit.train.data.stored_rows import StoredRows, rendering_key, stored_rows
from rewardkit.train.data.turn_end import endless_response_problem
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.evaluation.statistics import wilson
from rewardkit.train.losses.preference import DPOLoss, dpo, sequence_logprobs
from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.packing import resolve_packing, resolve_prompt_sharing
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.run_folder import FINAL, TOKENS
from rewardkit.train.trainer.run import Run
from rewardkit.train.trainer.supervised import SupervisedTask, train_supervised


def train_dpo(file: TrainFile) -> Path:
    """Run the stage.

    Args:
        file: The configuration.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The model does not exist, or would not learn to end its answers.
        DataError: The data can't be used.
        OutputError: The run's folder can't be written.
        Interrupted: The run was interrupted; it can be resumed.
    """
    config = file.config_as(DpoConfig)
    rows = read_pairs(config.data) if collectives.is_main_process() else ([], [])
    policy = Policy.load(config.model, file.where("model", "path"), seed=config.seed, sharded=config.fsdp)
    policy.packing = resolve_packing(policy, config.packing, file.where("packing"))
    policy.sharing = resolve_prompt_sharing(policy, config.packing)
    limit = config.token_limit(policy.context)
    train, held_out = (
        load_pairs(file, policy, some, limit, name) for name, some in zip(("train", "eval"), rows, strict=True)
    )
    left_out = train.facts["left_out"] + held_out.facts["left_out"]
    facts = {"pairs": len(train), "pairs_held_out": len(held_out), "pairs_too_long": left_out}
    with Run.open(file, config.total_steps(len(train)), facts) as run:
        if left_out:
            run.console.message(f"{left_out} pairs have an answer of more than {limit} tokens and are left out")
        run.console.message(f"computing the reference log-probs of {2 * (len(train) + len(held_out))} answers")
        train_supervised(run, DpoTask(config, policy, train, held_out), config, sources=train.facts["sources"])
        return run.save_model(policy.save, FINAL)


def load_pairs(file: TrainFile, policy: Policy, rows: Sequence[Row], limit: int, name: str) -> StoredRows[AnswerPair]:
    """Render the pairs without those that have an answer that is too long. The fact ``left_out`` is their number.

    Args:
        file: The configuration.
        policy: The model whose tokenizer is used.
        rows: The rows, which only the main process needs.
        limit: The largest number of tokens of an answer with its prompt.
        name: "train" or "eval".

    Raises:
        ConfigError: The model would not learn to end its answers.
        DataError: A row can't be used, or all pairs are too long.
        OutputError: The run's folder can't be written.
    """
    config = file.config_as(DpoConfig)

    def render(facts: dict[str, Any]) -> Iterator[AnswerPair]:
        renderer = AnswerRenderer(policy.tokenizer, config.data, policy.eos_ids)
        sources: list[int] = []
        for row in rows:
            pair = renderer.pair(row)
            if pair.chosen.tokens == pair.rejected.tokens:
                raise DataError(f"{row.place}: both answers have the same tokens, so nothing is preferred")
            if pair.tokens > 2 * limit:
                continue
            if problem := endless_response_problem([pair.chosen, pair.rejected], policy.tokenizer, policy.eos_ids):
                raise ConfigError((file.where("model", "path"), problem))
            sources.append(row.source)
            yield pair
        if rows and not sources:
            raise DataError(f"none of {len(rows)} pairs fits into {limit} tokens; see max_tokens")
        facts |= {"left_out": len(rows) - len(sources), "sources": source_counts(config.data, sources)}

    def key() -> dict[str, Any]:
        files = [*paths(config.data.train), *paths(config.data.eval)]
        return rendering_key(config.data, files, policy.tokenizer, limit=limit, ends=sorted(policy.eos_ids))

    return stored_rows(config.output / TOKENS, name, AnswerPair, key, render)


@dataclass(frozen=True, slots=True)
class References:
    """Log-probabilities of the answers under the reference model, one per pair."""

    chosen_P: Tensor
    rejected_P: Tensor


class DpoTask(SupervisedTask):
    """Trains a policy to prefer the chosen answers. The policy at creation is the reference model."""

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
        self._lengths = pair_lengths(train)
        switch_off_dropout(policy.model)
        policy.model.train()
        with running_pass("the log-probs of the reference"):
            self.references = self._references(train)
            self.held_out_references = self._references(held_out)

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
        return self._packed([self.train[row] for row in rows])

    def _packed(self, pairs: Sequence[AnswerPair]) -> PackedRows | None:
        return self.policy.packed_rows([[len(pair.chosen.tokens), len(pair.rejected.tokens)] for pair in pairs])

    def set_batch(self, rows: Sequence[int]) -> None:
        """Set the rows of the next step."""
        self.rows = rows

    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Return the part of the mean loss, and the loss and implicit rewards of each pair."""
        found = self._loss(self.train, self.references, [self.rows[index] for index in part])
        return found.loss_P.sum() / len(self.rows), _pair_stats(found)

    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Return the metrics of a step."""
        return pair_metrics(stats_B_N)

    def evaluate(self) -> dict[str, float]:
        """Return loss, accuracy with its Wilson interval, and implicit rewards on the held-out pairs."""
        if not self.held_out:
            return {}
        stats_P_3 = self.policy.compute_rows(
            lambda part: _pair_stats(self._loss(self.held_out, self.held_out_references, part)),
            torch.zeros(len(self.held_out), self.stats_per_row),
            [pair.tokens for pair in self.held_out],
            self.config.micro_batch_tokens,
            self._packed(self.held_out),
        )
        found = pair_metrics(stats_P_3)
        interval = wilson(round(found["accuracy"] * len(stats_P_3)), len(stats_P_3))
        return {**found, "accuracy_low": interval.low, "accuracy_high": interval.high}

    def save(self, folder: Path) -> None:
        """Save the model as a folder that transformers loads."""
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
        answers = [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
        found = self.policy.forward_logprobs(
            [TokenSpan(answer.tokens, answer.start) for answer in answers], packed=self.policy.packing
        )
        counts = [torch.tensor(answer.weights) > 0 for answer in answers]
        counts_B_T = torch.nn.utils.rnn.pad_sequence(counts, batch_first=True).to(found.logprobs_B_T.device)
        summed_B = sequence_logprobs(found.logprobs_B_T, counts_B_T, average=self.config.loss == "ipo")
        return summed_B[0::2], summed_B[1::2]

    def _references(self, pairs: Sequence[AnswerPair]) -> References:
        both_P_2 = self.policy.compute_rows(
            lambda part: torch.stack(self._logprobs([pairs[row] for row in part]), dim=1),
            torch.zeros(len(pairs), 2),
            [pair.tokens for pair in pairs],
            self.config.micro_batch_tokens,
            self._packed(pairs),
        )
        return References(*both_P_2.unbind(1))


def _pair_stats(found: DPOLoss) -> Tensor:
    return torch.stack([found.loss_P, found.chosen_rewards_P, found.rejected_rewards_P], dim=1)


def pair_metrics(stats_P_3: Tensor) -> dict[str, float]:
    """Return loss, accuracy, margin and implicit rewards.

    Args:
        stats_P_3: (loss, reward of the chosen answer, reward of the rejected answer) of each pair. A tie, as before the first step,
            counts as half right.
    """
    loss_P, chosen_P, rejected_P = stats_P_3.unbind(1)
    return {
        "loss": float(loss_P.mean()),
        "accuracy": float(((chosen_P - rejected_P).sign() / 2 + 0.5).mean()),
        "margin": float((chosen_P - rejected_P).mean()),
        "chosen_reward": float(chosen_P.mean()),
        "rejected_reward": float(rejected_P.mean()),
    }
