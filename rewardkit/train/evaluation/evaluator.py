"""Evaluates models on held-out prompts: samples one greedy and several random answers to each, and scores them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from rewardkit.composite import CompositeReward
from rewardkit.config.expression import Expression
from rewardkit.errors import ConfigError, DataError, Location
from rewardkit.rollout_engine import RolloutEngine, Sampling
from rewardkit.train.config import ModelConfig, RlConfig, paths
from rewardkit.train.config.engines import ChosenEngine
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import columns_hint, data_hash, read_rows
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.evaluation.answers import GREEDY, Answer, ModelAnswers, Store
from rewardkit.train.evaluation.correctness import correct_condition, is_correct
from rewardkit.train.models.loading import load_tokenizer
from rewardkit.train.models.policy import Policy
from rewardkit.train.rollout.final_answer import final_answer
from rewardkit.train.rollout.generate import Sample, collect, refuse_unscored
from rewardkit.train.rollout.prompts import load_prompts
from rewardkit.train.rollout.synced_engine import SyncedEngine
from rewardkit.train.seeds import step_seed
from rewardkit.types import Score

KEPT_TOGETHER = 4
"""The number of the engine's batches after which answers are saved."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an evaluation."""

    model: str
    done: int
    """The number of scored answers."""
    total: int


def evaluate_models(
    file: TrainFile,
    models: Sequence[str | None],
    samples: int,
    out: Path | None = None,
    report: Callable[[Progress], None] = lambda _progress: None,
) -> list[ModelAnswers]:
    """Evaluate models on the held-out prompts of a configuration, one model after the other.

    Args:
        file: The configuration of a stage with a reward. Its model, data.eval, rollout and evaluate are used.
        models: Folders or hub names that replace the configuration's model; None is the configuration's own.
        samples: The number of sampled answers per prompt, besides the greedy one. 0 samples only the greedy one.
        out: The folder in which answers are saved. Saved answers are not sampled again.
        report: Called with the progress.

    Returns:
        The answers of each model.

    Raises:
        ConfigError: The configuration has no held-out data or no ``evaluate.correct``, or a model does not exist.
        DataError: The data can't be used.
        TooManyUnscoredError: More answers could not be scored than the reward allows.
        OutputError: The answers can't be saved.
    """
    config, condition = checked_settings(file)
    assert file.reward is not None  # noqa: S101 - ``checked_settings`` has checked it
    assert file.engine is not None  # noqa: S101 - it has a default
    file.engine.require()
    sections = [
        config.model if model is None else config.model.model_copy(update={"path": model, "lora": None})
        for model in models
    ]
    places = [file.where("model", "path") if model is None else Location(f"model {model}") for model in models]
    for section, place in zip(sections, places, strict=True):
        load_tokenizer(section, place)  # report a missing model before the first one is evaluated
    all_answers = []
    with CompositeReward(file.reward, registry=file.registry, workers=config.reward_workers) as reward:
        reward.preflight()
        for section, place in zip(sections, places, strict=True):
            policy = Policy.load(
                section,
                place,
                trained=False,
                stop=config.rollout.stop,
                skip_special_tokens=config.rollout.skip_special_tokens,
            )
            all_prompts, left_out = load_prompts(config, policy, [file.reward], config.data.eval, place)
            if left_out:
                logger.warning(
                    "%s of %s prompts are left out: with rollout.max_new_tokens (%s) they exceed the context of %s (%s tokens)",
                    left_out,
                    left_out + len(all_prompts),
                    config.rollout.max_new_tokens,
                    section.path,
                    policy.context,
                )
            prompts = all_prompts[: config.evaluate.limit]
            evaluator = _Evaluator(config, section, file.engine, condition, samples, policy, reward, prompts)
            store = None if out is None else Store(out / f"answers-{evaluator.key()}.jsonl")
            all_answers.append(ModelAnswers(section.path, prompts, evaluator.answers(store, report)))
    return all_answers


def checked_settings(file: TrainFile) -> tuple[RlConfig, Expression]:
    """Return the configuration and the condition for correct answers. Raises ConfigError if either is missing."""
    config = file.config
    if not isinstance(config, RlConfig) or file.reward is None:
        raise ConfigError(
            (file.where("stage"), "an evaluation needs the configuration of a stage that has a reward, such as grpo")
        )
    if config.data.eval is None:
        raise ConfigError((file.where("data"), "data.eval is missing: there is nothing to evaluate on"))
    place = file.where("evaluate", "correct")
    condition = correct_condition(config.evaluate.correct, file.reward.component_names, place)
    if condition is None:
        raise ConfigError(
            (
                file.where("evaluate"),
                'evaluate.correct is missing: set the condition for a correct answer, such as "correct == 1"',
            )
        )
    return config, condition


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Evaluates one model."""

    config: RlConfig
    section: ModelConfig
    """The section that the model was loaded from."""
    engine: ChosenEngine
    condition: Expression
    samples: int
    policy: Policy
    reward: CompositeReward
    prompts: Sequence[Prompt]

    def key(self) -> str:
        """Return a hash of everything that answers depend on, besides the prompt and the index of the sample."""
        config = self.config
        facts = {
            "model": _weights_of(self.section.path),
            "engine": self.engine.offer.type.name,
            "data": data_hash(paths(config.data.eval)),
            "rows": config.data.model_dump(mode="json", exclude={"train", "eval"}),
            "rollout": config.rollout.model_dump(
                mode="json", include={"max_new_tokens", "temperature", "top_p", "top_k", "stop", "skip_special_tokens"}
            ),
            "template": config.model.model_dump(
                mode="json", include={"tokenizer", "chat_template", "eos_token", "dtype"}
            ),
            "reward": self.reward.reward_id,
            "correct": config.evaluate.correct,
            "answer": config.evaluate.answer,
            "seed": config.seed,
        }
        return hashlib.blake2b(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS), digest_size=6).hexdigest()

    def answers(self, store: Store | None, report: Callable[[Progress], None]) -> list[Answer]:
        """Return all answers: the saved ones, and new ones for those that are missing."""
        model = self.section.path
        rollout = self.config.rollout
        wanted = {(prompt, place) for prompt in range(len(self.prompts)) for place in (GREEDY, *range(self.samples))}
        kept = store.read() if store is not None else []
        found = [answer for answer in kept if (answer.prompt, answer.place) in wanted]
        missing = sorted(wanted - {(answer.prompt, answer.place) for answer in found})
        report(Progress(model, len(found), len(wanted)))
        if not missing:
            return found
        drawn = Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k, tuple(rollout.stop))
        greedy = replace(drawn, temperature=0.0, top_p=1.0, top_k=0)
        tokens = [prompt.tokens for prompt in self.prompts]
        with closing(SyncedEngine(self.engine, self.section, rollout, self.policy, tokens, drawn)) as engine:
            for sampling, is_greedy in ((greedy, True), (drawn, False)):
                chosen = [(prompt, place) for prompt, place in missing if (place == GREEDY) is is_greedy]
                for start in range(0, len(chosen), KEPT_TOGETHER * rollout.batch):
                    part = chosen[start : start + KEPT_TOGETHER * rollout.batch]
                    with running_pass(f"the evaluation of {model}"):
                        samples = self.sample(engine, part, sampling)
                    got = [self.answer_of(sample, *where) for sample, where in zip(samples, part, strict=True)]
                    if store is not None and collectives.is_main_process():
                        # Unscored answers are not saved, so that the next evaluation tries them again.
                        store.add([answer for answer in got if answer.right is not None])
                    refuse_unscored(samples, self.reward.config.abort_above, model)
                    found += got
                    report(Progress(model, len(found), len(wanted)))
        return found

    def sample(self, engine: RolloutEngine, wanted: Sequence[tuple[int, int]], sampling: Sampling) -> list[Sample]:
        """Sample and score the answers at each (prompt, place), in order."""
        requests = _requests(wanted, self.config.rollout.batch)
        seeds = [
            [step_seed(self.config.seed, "eval", prompt, max(place, 0)) for place in places]
            for prompt, places in requests
        ]
        prompts = [self.prompts[prompt] for prompt, _ in requests]
        return collect(engine, self.reward, self.policy.decode, prompts, seeds, sampling, step=0)

    def answer_of(self, sample: Sample, prompt: int, place: int) -> Answer:
        """Return a sample as an answer."""
        text = sample.scored.rollout.completion_text
        pattern = self.config.evaluate.answer
        return Answer(
            prompt,
            place,
            is_correct(sample.scored, self.condition),
            sample.scored.reward,
            {
                name: outcome.value if isinstance(outcome, Score) else None
                for name, outcome in sample.scored.outcomes.items()
            },
            len(sample.completion.written),
            sample.completion.finish_reason == "length",
            None if pattern is None else final_answer(text, pattern),
            text,
        )


def classes_of(config: RlConfig, column: str | None) -> dict[int, str]:
    """Return the class of each held-out prompt, read from a column. Raises DataError if no row has the column."""
    rows = read_rows(paths(config.data.eval))[: config.evaluate.limit]
    if column is None:
        return dict.fromkeys(range(len(rows)), "all")
    classes = [row.find(column) for row in rows]
    if all(value is None for value in classes):
        raise DataError(f"--by {column}: no held-out row has that column. {columns_hint(column, rows)}")
    return {index: "(none)" if value is None else str(value) for index, value in enumerate(classes)}


def _requests(wanted: Sequence[tuple[int, int]], most: int) -> list[tuple[int, list[int]]]:
    """Group (prompt, place) pairs by prompt into requests with at most ``most`` places."""
    found: list[tuple[int, list[int]]] = []
    for prompt, place in wanted:
        if found and found[-1][0] == prompt and len(found[-1][1]) < most:
            found[-1][1].append(place)
        else:
            found.append((prompt, [place]))
    return found


def _weights_of(model: str) -> list[Any]:
    """Return what identifies a model: the names, sizes and times of its files, or the name of a hub model."""
    folder = Path(model)
    if not folder.is_dir():
        return [model]
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
