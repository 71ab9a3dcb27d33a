"""Process reward models: cross-entropy on a label for each step of a completion, evaluated on held-out completions.

The trained model is a transformers folder: a token classifier with one output, which is read at the last token of each step. Its
``config.json`` also has the separator of steps, which the reward ``reward_model.steps`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from rich.table import Table
from torch import Tensor

from rewardkit.errors import OutputError
from rewardkit.train.config import RewardModelConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.mixture import source_counts
from rewardkit.train.data.rows import Row
from rewardkit.train.data.step_labels import LabelledSteps, StepRenderer, read_step_rows
from rewardkit.train.data.stored_rows import StoredRows, rendering_key, stored_rows
from rewardkit.train.distributed import collectives
from rewardkit.train.evaluation.statistics import Estimate
from rewardkit.train.evaluation.step_accuracy import StepReport, StepScores, step_report
from rewardkit.train.evaluation.subset_table import subset_table
from rewardkit.train.losses.preference import step_cross_entropy
from rewardkit.train.models.reward_model import StepRewardModel
from rewardkit.train.run_folder import FINAL, TOKENS
from rewardkit.train.stages.scored_rows_task import ScoredRowsTask
from rewardkit.train.trainer.run import Run
from rewardkit.train.trainer.supervised import train_supervised


def train_step_reward_model(file: TrainFile) -> Path:
    """Run the stage with ``level: step``.

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
    rows = read_step_rows(config.data) if collectives.is_main_process() else ([], [])
    scorer = StepRewardModel.load(
        config.model, file.where("model", "path"), trained=config.trained, seed=config.seed, sharded=config.fsdp
    )
    limit = config.token_limit(scorer.context)
    train, held_out = (
        load_steps(config, scorer, some, limit, name) for name, some in zip(("train", "eval"), rows, strict=True)
    )
    cut, steps = train.facts["cut"], train.facts["steps"]
    facts = {"completions": len(train), "steps": steps, "completions_held_out": len(held_out), "dialogues_cut": cut}
    with Run.open(file, config.total_steps(len(train)), facts) as run:
        if cut:
            run.console.message(
                f"{cut} of {len(train)} dialogues are longer than {limit} tokens; their beginning is cut off"
            )
        task = StepRewardTask(config, scorer, train, held_out)
        train_supervised(run, task, config, sources=train.facts["sources"])
        path = run.save_model(task.save, FINAL)
        if held_out and collectives.is_main_process():
            report = task.report()
            save_evaluation(run.folder, report.as_json())
            run.console.rich.print(summary(report))
            if report.subsets:
                run.console.rich.print(subset_table(report.subsets, report.mean_over_subsets, "steps"))
        return path


def load_steps(
    config: RewardModelConfig, scorer: StepRewardModel, rows: Sequence[Row], limit: int, name: str
) -> StoredRows[LabelledSteps]:
    """Render the completions. The facts are the number of labelled steps, and of dialogues whose beginning is cut off.

    Args:
        config: The configuration.
        scorer: The reward model whose tokenizer is used.
        rows: The rows, which only the main process needs.
        limit: The largest number of tokens of a dialogue.
        name: "train" or "eval".

    Raises:
        DataError: A row can't be rendered, or has another number of labels than steps.
        OutputError: The run's folder can't be written.
    """

    def render(facts: dict[str, Any]) -> Iterator[LabelledSteps]:
        renderer = StepRenderer(scorer.tokenizer, config.data, limit)
        cut = steps = 0
        for row in rows:
            found = renderer.steps(row)
            cut += found.is_cut
            steps += len(found.ends)
            yield found
        facts |= {"cut": cut, "steps": steps, "sources": source_counts(config.data, (row.source for row in rows))}

    def key() -> dict[str, Any]:
        files = [*paths(config.data.train), *paths(config.data.eval)]
        return rendering_key(config.data, files, scorer.tokenizer, limit=limit)

    return stored_rows(config.output / TOKENS, name, LabelledSteps, key, render)


class StepRewardTask(ScoredRowsTask[LabelledSteps, StepRewardModel, StepReport]):
    """Trains a process reward model to tell right steps from wrong ones."""

    stats_per_row = 3

    def __init__(
        self,
        config: RewardModelConfig,
        scorer: StepRewardModel,
        train: StoredRows[LabelledSteps],
        held_out: Sequence[LabelledSteps],
    ) -> None:
        super().__init__(config, scorer, train, held_out, train.sizes("tokens"))

    def compute_loss(self, part: list[int]) -> tuple[Tensor, Tensor]:
        """Return the part of the mean loss over the batch's steps, and of each row the loss, the right verdicts and the steps."""
        rows = [self.batch[index] for index in part]
        logits_S = self.scorer.step_logits([row.tokens for row in rows], [row.ends for row in rows])
        labels_S = torch.tensor([label for row in rows for label in row.labels], device=logits_S.device)
        loss_S = step_cross_entropy(logits_S, labels_S, label_smoothing=self.config.loss.label_smoothing)
        counts = [len(row.ends) for row in rows]
        hits_S = ((logits_S >= 0) == (labels_S >= 0.5)).float()
        stats = [
            torch.stack([loss.sum(), hits.sum(), torch.tensor(float(len(hits)), device=hits.device)])
            for loss, hits in zip(torch.split(loss_S, counts), torch.split(hits_S, counts), strict=True)
        ]
        return loss_S.sum() / sum(len(row.ends) for row in self.batch), torch.stack(stats)

    def metrics(self, stats_B_N: Tensor) -> dict[str, float]:
        """Return the metrics of a step."""
        loss, hits, steps = stats_B_N.sum(0).tolist()
        return {"loss": loss / steps, "accuracy": hits / steps}

    def make_report(self) -> StepReport:
        """Evaluate on the held-out completions."""
        rows = [(row.tokens, row.ends) for row in self.held_out]
        logits = self.scorer.score_steps(
            [tokens for tokens, _ in rows], [ends for _, ends in rows], self.config.micro_batch_tokens
        )
        return step_report(
            [StepScores(own, row.labels, row.subset) for own, row in zip(logits, self.held_out, strict=True)]
        )

    def save(self, folder: Path) -> None:
        """Save the model as a folder that transformers loads."""
        facts = {
            "reward_level": "step",
            "reward_separator": self.config.data.separator,
            "reward_as_chat": self.config.data.as_chat,
            "reward_max_tokens": self.config.max_tokens,
        }
        self.scorer.save(folder, facts)


def save_evaluation(folder: Path, report: dict[str, Any]) -> None:
    """Write the evaluation of the finished model to ``evaluation.json``. Raises OutputError."""
    try:
        (folder / "evaluation.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise OutputError(f"the evaluation can't be written to {folder}: {error.strerror}") from None


def summary(report: StepReport) -> Table:
    """Return the evaluation as a table for the console."""
    title = f"{report.steps:,} steps of {report.completions:,} held-out completions"
    table = Table(title=title, title_justify="left", show_header=False)

    def row(name: str, value: Estimate) -> None:
        if math.isnan(value.value):
            table.add_row(name, "–", "there are none")
            return
        table.add_row(name, f"{value.value:.1%}", f"{value.low:.1%} to {value.high:.1%}")

    row("accuracy of steps", report.accuracy)
    row("accuracy on right steps", report.on_right)
    row("accuracy on wrong steps", report.on_wrong)
    row("calling every step right", report.always_right)
    row("completions whose first error is found", report.first_error)
    table.add_row("area under the ROC curve (AUC)", "–" if math.isnan(report.auc) else f"{report.auc:.3f}", "")
    table.add_row("expected calibration error (ECE)", f"{report.calibration_error:.3f}", "")
    return table
