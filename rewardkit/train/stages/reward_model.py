"""Reward models: Bradley–Terry loss on preference pairs, evaluated on held-out pairs.

The trained model is a transformers folder: a sequence classifier with one output. Its ``config.json`` also has the input format and the
mean and standard deviation of the scores, which the plugin ``reward_model`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from rewardkit.errors import DataError, OutputError
from rewardkit.train.config import RewardModelConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.mixture import source_counts
from rewardkit.train.data.preference_pairs import DialogueRenderer, ScoredPair, pair_lengths, read_pairs
from rewardkit.train.data.rows import Row
from rewardkit.train.data.stored_rows import StoredRows, rendering_key, stored_rows
from rewardkit.train.distributed import collectives
from rewardkit.train.evaluation.preference_accuracy import PairScores, PreferenceReport, preference_report
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.evaluation.subset_table import subset_table
from rewardkit.train.losses.preference import bradley_terry
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.reports.reliability_diagram import reliability_svg
from rewardkit.train.run_folder import FINAL, TOKENS
from rewardkit.train.stages.scored_rows_task import ScoredRowsTask
from rewardkit.train.stages.step_reward_model import save_evaluation, train_step_reward_model
from rewardkit.train.trainer.run import Run
from rewardkit.train.trainer.supervised import train_supervised


def train_reward_model(file: TrainFile) -> Path:
    """Run the stage.

    Args:
        file: The configuration.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The model does not exist.
        DataError: The data can't be used.
        OutputError: The run's folder can't be written.
        Interrupted: The run was interrupted; it can be resumed.
    """
    config = file.config_as(RewardModelConfig)
    if config.level == "step":
        return train_step_reward_model(file)
    rows = read_pairs(config.data) if collectives.is_main_process() else ([], [])
    scorer = RewardModel.load(
        config.model, file.where("model", "path"), trained=config.trained, seed=config.seed, sharded=config.fsdp
    )
    limit = config.token_limit(scorer.context)
    train, held_out = (
        load_pairs(config, scorer, some, limit, name) for name, some in zip(("train", "eval"), rows, strict=True)
    )
    if held_out and held_out[0].chosen.is_chat != train[0].chosen.is_chat:
        raise DataError(
            "the rows to train on and the held-out rows are of different forms, chat messages and text; use one form for both"
        )
    cut = train.facts["cut"]
    facts = {"pairs": len(train), "pairs_held_out": len(held_out), "dialogues_cut": cut}
    with Run.open(file, config.total_steps(len(train)), facts) as run:
        if cut:
            run.console.message(
                f"{cut} of {2 * len(train)} dialogues are longer than {limit} tokens; their beginning is cut off"
            )
        task = RewardModelTask(config, scorer, train, held_out)
        train_supervised(run, task, config, sources=train.facts["sources"])
        path = run.save_model(task.save, FINAL)
        if held_out and collectives.is_main_process():
            save_and_print(run, task.report())
        return path


def load_pairs(
    config: RewardModelConfig, scorer: RewardModel, rows: Sequence[Row], limit: int, name: str
) -> StoredRows[ScoredPair]:
    """Render the pairs. The fact ``cut`` is the number of dialogues whose beginning is cut off.

    Args:
        config: The configuration.
        scorer: The reward model whose tokenizer is used.
        rows: The rows, which only the main process needs.
        limit: The largest number of tokens of a dialogue.
        name: "train" or "eval".

    Raises:
        DataError: A row can't be rendered, or pairs to train on have equal answers.
        OutputError: The run's folder can't be written.
    """

    def render(facts: dict[str, Any]) -> Iterator[ScoredPair]:
        renderer = DialogueRenderer(scorer.tokenizer, config.data, limit)
        cut = equal = 0
        for row in rows:
            pair = renderer.pair(row, config.loss.margin)
            cut += pair.chosen.is_cut + pair.rejected.is_cut
            equal += pair.chosen.tokens == pair.rejected.tokens
            yield pair
        if equal and name == "train":
            raise DataError(f"{equal} pairs have equal answers within the last {limit} tokens; raise max_tokens")
        facts |= {"cut": cut, "sources": source_counts(config.data, (row.source for row in rows))}

    def key() -> dict[str, Any]:
        files = [*paths(config.data.train), *paths(config.data.eval)]
        return rendering_key(config.data, files, scorer.tokenizer, limit=limit, margin=config.loss.margin)

    return stored_rows(config.output / TOKENS, name, ScoredPair, key, render)


class RewardModelTask(ScoredRowsTask[ScoredPair, RewardModel, PreferenceReport]):
    """Trains a reward model to score the preferred answer higher."""

    stats_per_row = 2

    def __init__(
        self,
        config: RewardModelConfig,
        scorer: RewardModel,
        train: Sequence[ScoredPair],
        held_out: Sequence[ScoredPair],
    ) -> None:
        super().__init__(config, scorer, train, held_out, pair_lengths(train))

    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Return the part of the mean loss, and the loss and score difference of each pair."""
        pairs = [self.batch[index] for index in part]
        both = self.scorer.scores([pair.chosen.tokens for pair in pairs] + [pair.rejected.tokens for pair in pairs])
        chosen_P, rejected_P = both.chunk(2)
        margin_P = torch.tensor([pair.margin for pair in pairs], device=both.device)
        loss = self.config.loss
        loss_P = bradley_terry(
            chosen_P, rejected_P, margin_P, centring=loss.centring, label_smoothing=loss.label_smoothing
        )
        return loss_P.sum() / len(self.batch), torch.stack([loss_P, chosen_P - rejected_P], dim=1)

    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Return the metrics of a step."""
        loss_P, lead_P = stats_B_N.unbind(1)
        return {
            "loss": float(loss_P.mean()),
            "accuracy": float((lead_P > 0).float().mean()),
            "lead": float(lead_P.mean()),
        }

    def make_report(self) -> PreferenceReport:
        """Evaluate on the held-out pairs; on the training pairs if none are held out."""
        return evaluate(self.scorer, self.held_out or self.train, self.config.micro_batch_tokens)

    def save(self, folder: Path) -> None:
        """Save the model as a folder that transformers loads."""
        report = self.report()
        facts = {
            "reward_input": "chat" if self.train[0].chosen.is_chat else "text",
            "reward_mean": report.mean,
            "reward_std": report.std or 1.0,
            "reward_max_tokens": self.config.max_tokens,
        }
        self.scorer.save(folder, facts)


def evaluate(scorer: RewardModel, pairs: Sequence[ScoredPair], most_tokens: int) -> PreferenceReport:
    """Score both answers of every pair, and return the report."""
    dialogues = [dialogue for pair in pairs for dialogue in (pair.chosen, pair.rejected)]
    scores = scorer.score_all([dialogue.tokens for dialogue in dialogues], most_tokens)
    return preference_report(
        [
            PairScores(
                scores[2 * index],
                scores[2 * index + 1],
                pair.chosen.characters,
                pair.rejected.characters,
                pair.subset,
            )
            for index, pair in enumerate(pairs)
        ]
    )


def save_and_print(run: Run, report: PreferenceReport) -> None:
    """Save and print the evaluation of the finished model. Raises OutputError."""
    save_evaluation(run.folder, report.as_json())
    try:
        (run.folder / "reliability.svg").write_text(reliability_svg(report.as_json()), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"the evaluation can't be written to {run.folder}: {error.strerror}") from None
    run.console.rich.print(summary(report))
    if report.subsets:
        run.console.rich.print(subset_table(report.subsets, report.mean_over_subsets, "pairs"))


def summary(report: PreferenceReport) -> Table:
    """Return the evaluation as a table for the console."""
    table = Table(title=f"{report.pairs} held-out pairs", title_justify="left", show_header=False)

    def row(name: str, value: Estimate) -> None:
        if math.isnan(value.value):
            table.add_row(name, "–", "there are no such pairs")
            return
        table.add_row(name, f"{value.value:.1%}", f"{value.low:.1%} to {value.high:.1%}")

    row("accuracy", report.accuracy)
    row("accuracy where the preferred answer is longer", report.where_chosen_is_longer)
    row("accuracy where the preferred answer is shorter", report.where_chosen_is_shorter)
    row("always the longer answer", report.always_longer)
    row("always the shorter answer", report.always_shorter)
    table.add_row("expected calibration error (ECE)", f"{report.calibration_error:.3f}", "")
    table.add_row("correlation of score and length", f"{report.length_correlation:+.3f}", "Spearman")
    return table
