"""Train language models with rewards: SFT, reward models, DPO, GRPO and PPO.

``train`` and ``evaluate`` do what the commands ``rewardkit train`` and ``rewardkit eval`` do. Importing this package, and
``rewardkit.train.config``, needs no torch; calling the functions needs ``pip install 'rewardkit[train]'``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewardkit.registry import Registry
    from rewardkit.train.config.training_file import TrainFile

__all__ = ["Evaluation", "RewardModelEvaluation", "Run", "evaluate", "evaluate_reward_model", "train"]

# torch reads this when it is imported. If one of several processes dies, torch would print a C++ stack trace in each of the others.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training run."""

    folder: Path
    """The output folder, with ``report.html``, ``metrics.jsonl`` and ``checkpoints``."""
    model: Path
    """The folder of the trained model, which transformers loads."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``: ``step``, ``kind`` (train or eval) and the metrics by name."""
        from rewardkit.train.run_folder import read_metrics

        return read_metrics(self.folder)

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """The alarms of monitors: ``step``, ``name`` and ``message``."""
        from rewardkit.train.run_folder import read_lines

        return read_lines(self.folder / "alarms.jsonl")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation on held-out prompts."""

    record: Mapping[str, Any]
    """All metrics as JSON data, as in ``eval.json``."""
    all_answers: Sequence[Any]
    """The answers of each model."""
    labelled: Sequence[Mapping[str, Any]]
    """The metrics of each model by label, with their confidence intervals."""
    changes: Sequence[Any]
    """The comparison of two models, over all problems first; empty for one model."""
    page: Path
    """The HTML report."""


@dataclass(frozen=True, slots=True)
class RewardModelEvaluation:
    """The result of an evaluation of a reward model on held-out pairs or steps."""

    record: Mapping[str, Any]
    """All metrics as JSON data, as in ``eval.json``."""
    tables: Sequence[Any]
    """The tables of the console."""
    page: Path
    """The HTML report."""


def train(
    config: Path | str | Mapping[str, Any] | TrainFile,
    overrides: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
    registry: Registry | None = None,
) -> Run:
    """Train a model.

    If the output folder contains an earlier run of the same configuration, training resumes from its last checkpoint.

    Args:
        config: A YAML file, its content as a mapping, or what ``read_train_config`` returned. Relative paths in a file are relative
            to its folder, and those in a mapping to the current directory.
        overrides: YAML values by dotted path, such as ``{"optimizer.lr": "3e-5"}``, which replace those of the configuration.
        fresh: Whether to remove an earlier run from the output folder first.
        registry: The plugins; by default the installed ones.

    Returns:
        The finished run.

    Raises:
        ConfigError: The configuration is wrong, or names a file that does not exist.
        UsageError: torch or another package is not installed, or the output folder contains another run.
        DataError: The data can't be used.
        OutputError: The output folder can't be written.
        TooManyUnscoredError: More rollouts could not be scored than the reward allows.
        RewardkitError: The run was interrupted (exit code 130), or an alarm ended it.
    """
    file = _read(config, overrides, registry)
    from rewardkit.train.data.input_check import check_inputs

    check_inputs(file, "train", "eval")
    from rewardkit.train.config.reading import stage_of
    from rewardkit.train.config.stages import STAGES, import_heavy

    import_heavy()
    runner = STAGES[stage_of(file.document)].runner()
    from rewardkit.train.trainer.launch import launch

    return Run(file.config.output, launch(file, runner, fresh=fresh))


def evaluate(
    config: Path | str | Mapping[str, Any] | TrainFile,
    models: Sequence[str | Path | None] = (None,),
    *,
    samples: int = 16,
    by: str | None = None,
    out: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    progress: Callable[[Any], None] = lambda _progress: None,
) -> Evaluation:
    """Evaluate one model on the held-out data of a GRPO or PPO configuration, or compare two.

    Answers are saved as they are sampled, so that an interrupted evaluation resumes.

    Args:
        config: A YAML file, or its content as a mapping, as for ``train``. Its ``data.eval``, ``reward``, ``rollout`` and
            ``evaluate`` are used.
        models: Folders or hub names of one model, or of a base and a trained model; None is the configuration's model.
        samples: Sampled answers per prompt, beside the greedy one.
        by: With two models, a column of the rows that names the class of a problem.
        out: The folder of answers, ``eval.json`` and ``eval.html``; by default the run's output folder with ``-eval`` appended.
        overrides: YAML values by dotted path.
        registry: The plugins; by default the installed ones.
        progress: Called with the progress of each model.

    Returns:
        The result.

    Raises:
        ConfigError: The configuration is wrong, or has no held-out data or no ``evaluate.correct``.
        UsageError: There are more than two models, or too few samples to compare two.
        DataError: The data can't be used.
        TooManyUnscoredError: More answers could not be scored than the reward allows.
        OutputError: The folder can't be written.
    """
    from rewardkit.errors import OutputError, UsageError

    if len(models) not in {1, 2}:
        raise UsageError(f"evaluate takes one model or two, not {len(models)}")
    if len(models) == 2 and samples < 2:
        raise UsageError(
            "comparing two models needs at least 2 samples per prompt: half of them decide what is within reach"
        )
    file = _read(config, overrides, registry)
    from rewardkit.train.config.stages import import_heavy

    import_heavy()
    import orjson

    from rewardkit.train.data.input_check import check_inputs
    from rewardkit.train.distributed.collectives import is_main_process
    from rewardkit.train.evaluation.evaluator import checked_settings, classes_of, evaluate_models
    from rewardkit.train.evaluation.metrics import labelled, model_metrics, record_of
    from rewardkit.train.evaluation.pass_at_k import compare
    from rewardkit.train.reports.evaluation_report import write_page
    from rewardkit.train.trainer.launch import connected_processes, quiet

    quiet()
    settings, _ = checked_settings(file)
    check_inputs(file, "eval")
    classes = classes_of(settings, by)
    folder = out or settings.output.with_name(f"{settings.output.name}-eval")
    with connected_processes(settings.collective_timeout):
        all_answers = evaluate_models(file, [_model_source(model) for model in models], samples, folder, progress)
    metrics = [model_metrics(model_answers, samples) for model_answers in all_answers]
    shown = [labelled(of) for of in metrics]
    changes = compare(all_answers[0], all_answers[1], classes) if len(all_answers) == 2 else []
    record = record_of(samples, all_answers, metrics, changes)
    page = folder / "eval.html"
    if not is_main_process():
        return Evaluation(record, all_answers, shown, changes, page)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "eval.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from None
    facts = {
        "reward": "" if file.reward is None else ", ".join(file.reward.component_names),
        "right if": str(settings.evaluate.correct),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    write_page(page, shown, all_answers, changes, facts)
    return Evaluation(record, all_answers, shown, changes, page)


def evaluate_reward_model(
    config: Path | str | Mapping[str, Any] | TrainFile,
    model: str | Path | None = None,
    *,
    by: str | None = None,
    out: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> RewardModelEvaluation:
    """Evaluate a reward model on the held-out rows of its configuration.

    Args:
        config: A YAML file, or its content as a mapping, as for ``train``. Its held-out rows are those of ``data.eval``, or the share that
            its run holds out.
        model: A folder or hub name; by default the model that the configuration's run trained.
        by: A column that names the subset of each row (``data.subset``): the accuracy of each and their mean are reported.
        out: The folder of ``eval.json`` and ``eval.html``; by default the run's output folder with ``-eval`` appended.
        overrides: YAML values by dotted path.
        registry: The plugins; by default the installed ones.

    Returns:
        The result.

    Raises:
        ConfigError: The configuration is wrong, or there is no such model.
        DataError: The data can't be used, or no rows are held out.
        OutputError: The folder can't be written.
    """
    file = _read(config, overrides, registry)
    from rewardkit.train.config.stages import import_heavy

    import_heavy()
    from dataclasses import replace

    import orjson

    from rewardkit.errors import OutputError
    from rewardkit.train.config import RewardModelConfig
    from rewardkit.train.data.input_check import check_inputs
    from rewardkit.train.reports.reward_model_tables import write_reward_model_page
    from rewardkit.train.stages.reward_model_evaluation import evaluate_reward_model as evaluated
    from rewardkit.train.stages.reward_model_evaluation import tables_of
    from rewardkit.train.trainer.launch import connected_processes, quiet

    quiet()
    settings = file.config_as(RewardModelConfig)
    if by is not None:
        data = settings.data.model_copy(update={"subset": by})
        file = replace(file, config=settings.model_copy(update={"data": data}))
    check_inputs(file, "train" if settings.data.eval is None else "eval")
    with connected_processes(settings.collective_timeout):
        source, report = evaluated(file, _model_source(model))
    record = {"model": source, **report.as_json()}
    folder = out or settings.output.with_name(f"{settings.output.name}-eval")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "eval.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from None
    facts = {"model": source, "level": settings.level, "date": datetime.now(UTC).isoformat(timespec="minutes")}
    page = write_reward_model_page(folder / "eval.html", record, facts)
    return RewardModelEvaluation(record, tables_of(report), page)


def _read(
    config: Path | str | Mapping[str, Any] | TrainFile, overrides: Mapping[str, str] | None, registry: Registry | None
) -> TrainFile:
    """Read a configuration, unless it has been read."""
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.training_file import TrainFile

    return config if isinstance(config, TrainFile) else read_train_config(config, registry, overrides)


def _model_source(model: str | Path | None) -> str | None:
    """Return a model's folder as an absolute path, and a hub name unchanged."""
    if model is None:
        return None
    from rewardkit.train.config.base import model_source

    source = model_source(str(model), Path.cwd())
    return str(Path(source).resolve()) if Path(source).is_absolute() else source
