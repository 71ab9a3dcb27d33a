"""Evaluates a reward model on held-out rows, for ``rewardkit eval``."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from rewardkit.errors import ConfigError, DataError
from rewardkit.train.config import RewardModelConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.preference_pairs import DialogueRenderer, read_pairs
from rewardkit.train.data.rows import read_rows
from rewardkit.train.data.step_labels import StepRenderer, read_step_rows
from rewardkit.train.evaluation.preference_accuracy import PreferenceReport
from rewardkit.train.evaluation.step_accuracy import StepReport, StepScores, step_report
from rewardkit.train.evaluation.subset_table import subset_table
from rewardkit.train.models.reward_model import RewardModel, StepRewardModel
from rewardkit.train.run_folder import FINAL
from rewardkit.train.stages.reward_model import evaluate, summary
from rewardkit.train.stages.step_reward_model import summary as step_summary


def tables_of(report: PreferenceReport | StepReport) -> list[Table]:
    """Return an evaluation as tables for the console.

    Args:
        report: The evaluation.
    """
    if isinstance(report, StepReport):
        found, unit = [step_summary(report)], "steps"
    else:
        found, unit = [summary(report)], "pairs"
    return [*found, *([subset_table(report.subsets, report.mean_over_subsets, unit)] if report.subsets else [])]


def evaluate_reward_model(file: TrainFile, model: str | None = None) -> tuple[str, PreferenceReport | StepReport]:
    """Evaluate a reward model on the held-out rows of a configuration.

    Args:
        file: The configuration. Its held-out rows are those of ``data.eval``, or the share that its run holds out.
        model: The folder or hub name of the model; None is the model that its run trained.

    Returns:
        The model's folder or name, and the evaluation.

    Raises:
        ConfigError: There is no such model, or it is of another level.
        DataError: The data can't be used, or no rows are held out.
    """
    config = file.config_as(RewardModelConfig)
    source = model or str(config.output / FINAL)
    if model is None and not Path(source).is_dir():
        raise ConfigError(
            (file.where("output"), f"there is no trained model {source}: train it first, or name one as --model")
        )
    settings = config.model.model_copy(update={"path": source, "lora": None})
    is_step = config.level == "step"
    data = config.data
    held_out = (
        read_rows(paths(data.eval)) if data.eval is not None else (read_step_rows if is_step else read_pairs)(data)[1]
    )
    if not held_out:
        raise DataError("no rows are held out; set data.eval, or data.eval_share above 0")
    kind: type[RewardModel] = StepRewardModel if is_step else RewardModel
    scorer = kind.load(settings, file.where("output"), seed=config.seed)
    if not scorer.is_trained(source):
        level = "step" if is_step else "completion"
        raise ConfigError(
            (file.where("level"), f"{source} is no reward model of level: {level}: its head would be random")
        )
    limit = config.token_limit(scorer.context)
    if isinstance(scorer, StepRewardModel):
        steps = StepRenderer(scorer.tokenizer, data, limit)
        rows = [steps.steps(row) for row in held_out]
        logits = scorer.score_steps([row.tokens for row in rows], [row.ends for row in rows], config.micro_batch_tokens)
        scores = [StepScores(own, row.labels, row.subset) for own, row in zip(logits, rows, strict=True)]
        return source, step_report(scores)
    renderer = DialogueRenderer(scorer.tokenizer, data, limit)
    return source, evaluate(scorer, [renderer.pair(row, None) for row in held_out], config.micro_batch_tokens)
