"""Reinforcement learning: prompts → rollouts → scores → advantages → loss → update → sync, in ``Trainer.step``.

What is learned from the scored rollouts is the updater's business (``learn``, ``ppo``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from rewardkit.composite import CompositeReward
from rewardkit.config.expression import Expression
from rewardkit.errors import ConfigError, EngineError, RewardkitError
from rewardkit.rollout_engine import Sampling
from rewardkit.train.config import ProcessConfig, RlConfig
from rewardkit.train.config.engines import ChosenEngine
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.batching import Order
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import agreed
from rewardkit.train.evaluation.correctness import correct_condition, doubt
from rewardkit.train.evaluation.held_out import evaluate
from rewardkit.train.losses.advantages import group_statistics
from rewardkit.train.models.policy import Policy
from rewardkit.train.monitoring import rollout_metrics
from rewardkit.train.monitoring.monitors import Alarm, Monitors, standard_error
from rewardkit.train.rollout.generate import Sample, Timings, collect, refuse_unscored
from rewardkit.train.rollout.prompts import load_prompts
from rewardkit.train.rollout.synced_engine import SyncedEngine
from rewardkit.train.run_folder import FINAL
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.checkpoint import step_of
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import PolicyUpdater
from rewardkit.train.trainer.rollout_batch import build_rollout_batch, rewards_learned
from rewardkit.train.trainer.run import AlarmError, Run


def train(file: TrainFile, config: RlConfig, make_updater: Callable[[Policy, Optimizer], PolicyUpdater]) -> Path:
    """Run a stage; returns the folder of the trained model.

    Args:
        file: The configuration's file.
        config: The configuration.
        make_updater: Makes what learns from the scored rollouts, for a policy and its optimiser.

    Raises:
        ConfigError: There is no such model, or the reward refuses its parameters.
        DataError: The data can't be used, or lack what the reward reads.
        TooManyUnscoredError: More of a step's rollouts than the reward file allows could not be scored.
        OutputError: The run can't be written down.
        Interrupted: Somebody asked it to end; it can go on.
    """
    assert file.reward is not None  # noqa: S101 - the schema requires one
    assert file.engine is not None  # noqa: S101 - it has a default
    file.engine.require()
    condition = correct_condition(
        config.evaluate.correct, file.reward.component_names, file.where("evaluate", "correct")
    )
    process = config.algorithm.process
    if process is not None and process.component not in file.reward.component_names:
        names = ", ".join(file.reward.component_names)
        place = file.where("algorithm", "process", "component")
        raise ConfigError((place, f"there is no component {process.component!r}; there are {names}"))
    with (
        ExitStack() as scope,
        CompositeReward(file.reward, registry=file.registry, workers=config.reward_workers) as reward,
    ):
        policy = Policy.load(config.model, file.where("model", "path"), seed=config.seed, shard=config.shard)
        prompts = load_prompts(config, policy, reward, config.data.train)
        held_out = load_prompts(config, policy, reward, config.data.eval)[: config.evaluate.limit]
        facts = {
            "reward": file.reward.resolved,
            "reward_id": reward.reward_id,
            "engine": file.engine.record(),
        }
        run = scope.enter_context(Run.open(file, config.steps, facts))
        if (warning := doubt(config, file.reward)) is not None:
            run.console.message(warning)
        optimizer = Optimizer(policy.trained, config.optimizer, config.steps, policy.shards)
        gold = scope.enter_context(CompositeReward(file.gold, registry=file.registry)) if file.gold else None
        updater = make_updater(policy, optimizer)
        trainer = Trainer(config, run, policy, reward, condition, updater, prompts, held_out, file.engine, gold)
        scope.callback(trainer.engine.close)
        return trainer.train()


class Trainer:
    """What a run holds on to from step to step."""

    def __init__(
        self,
        config: RlConfig,
        run: Run,
        policy: Policy,
        reward: CompositeReward,
        condition: Expression | None,
        updater: PolicyUpdater,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        engine: ChosenEngine,
        gold: CompositeReward | None = None,
    ) -> None:
        self.config = config
        self.run = run
        self.policy = policy
        self.reward = reward
        self.condition = condition
        self.prompts = prompts
        self.held_out = held_out
        tokens = [prompt.tokens for prompt in (*self.prompts, *self.held_out)]
        self.engine = SyncedEngine(engine, config.model, config.rollout, policy, tokens, self.sampling())
        self.updater = updater
        self.gold = gold
        self.monitors = Monitors(config.monitors)
        self.alarms: list[Alarm] = []
        """Of the step at hand."""
        self.calm_step = 0
        """The latest checkpoint that was made while nothing was out of its bounds; by gold, that means after an evaluation."""
        self.order = Order(len(self.prompts), config.seed)
        self.position = 0
        """How many prompts have been taken so far."""
        self.parts = updater.parts_to_keep()

    def train(self) -> Path:
        """All steps that are left."""
        run, config = self.run, self.config
        rolls_back = config.monitors.on_alarm == "rollback"
        resumed = self.resume()
        first = resumed or 0
        self.policy.model.train()
        if resumed is None:
            self.evaluate(0)
            if run.must_stop():
                raise run.interrupted(0)
            if rolls_back:
                self.keep(0)
        for step in run.steps(first):
            with self.keeping(step):
                self.step(step)
            done = step + 1
            evaluated = run.is_due(done, config.evaluate.every)
            if evaluated:
                with self.keeping(done):
                    self.evaluate(done)
            if self.alarms:
                self.alarm(done)
            stop = run.must_stop()
            if stop or run.is_due(done, config.checkpoint.every) or (rolls_back and evaluated):
                self.keep(done)
            if stop and done < config.steps:
                raise run.interrupted(done)
        return run.save_model(self.policy.save, FINAL)

    @contextmanager
    def keeping(self, done: int) -> Iterator[None]:
        """Whatever becomes of the sampler inside, the weights so far are kept."""
        position = self.position
        try:
            yield
        except EngineError as error:
            self.position = position
            if done == 0:
                raise
            self.keep(done)
            raise EngineError(
                f"{error}; step {done} is kept in {self.run.checkpoints.folder}: the same command goes on from there"
            ) from error

    def step(self, step: int) -> None:
        """One step, from prompts to new weights."""
        began = time.monotonic()
        timings, synced = Timings(), self.engine.seconds_sync
        samples, kept = self.sample(step, timings)
        scored = [sample for sample in kept if rewards_learned(sample, self.config.algorithm.process)]
        with agreed():
            self.engine.sleep()
        collected, synced = time.monotonic(), self.engine.seconds_sync - synced
        batch = build_rollout_batch(scored, self.config, self.policy.decode)
        learned = self.updater.learn(batch, step)
        self.refuse_stale(learned, step)
        self.engine.sync()
        ended = time.monotonic()
        tokens = sum(len(sample.completion.tokens) for sample in samples)
        sampled, used = (len({sample.group for sample in some}) for some in (samples, kept))
        metrics = {
            **rollout_metrics.rewards(samples),
            **learned,
            **_greatest(collectives.gathered([self.engine.figures])),
            **rollout_metrics.components(samples),
            "prompts_sampled": sampled,
            **({} if self.config.filter.zero_spread == "keep" else {"prompts_kept": used / sampled}),
            "tokens": tokens,
            "tokens_per_s": tokens / (ended - began),
            "scoring_seconds": timings.scoring,
            "seconds_generate": collected - began - timings.waiting - synced,
            "seconds_sync": synced,
            "seconds_await_scores": timings.waiting,
            "seconds_learn": ended - collected,
            "seconds": ended - began,
        }
        self.run.log(step + 1, metrics, rollouts=[sample.scored for sample in samples])
        self.alarms += self.monitors.watch(metrics)
        self.run.keep_samples(
            step + 1, [rollout_metrics.record(sample) for sample in samples[: self.config.log.samples]]
        )

    def keep(self, done: int) -> None:
        """Make a checkpoint."""
        known_to_be_good = self.gold is None or self.run.is_due(done, self.config.evaluate.every)
        if self.monitors.is_calm and known_to_be_good:
            self.calm_step = done
        self.run.checkpoints.save(done, self.parts, self.state(), spare=self.calm_step)

    def alarm(self, done: int) -> None:
        """Tell the step's alarms, and do what the configuration says about them. Raises AlarmError unless it says warn."""
        for item in self.alarms:
            self.run.alarm(done, item.name, item.message)
        messages = "; ".join(item.message for item in self.alarms)
        self.alarms = []
        match self.config.monitors.on_alarm:
            case "warn":
                return
            case "stop":
                self.keep(done)
                raise AlarmError(f"stopped after step {done}: {messages}; all is kept in {self.run.checkpoints.folder}")
            case "rollback":
                step = self.roll_back()
                path = self.run.save_model(self.policy.save, FINAL)
                raise AlarmError(
                    f"rolled back from step {done} to step {step}: {messages}; that model is in {path}, and the run goes on from there"
                )

    def roll_back(self) -> int:
        """Take everything from the latest checkpoint that was made while all was calm; the later ones go.

        Raises:
            AlarmError: There is none.
        """
        calm = [path for path in self.run.checkpoints.all() if step_of(path) <= self.calm_step]
        if not calm:
            raise AlarmError(
                f"no checkpoint was made before the alarm; the latest model is in {self.run.checkpoints.folder}"
            )
        self.run.checkpoints.drop_after(step_of(calm[-1]))
        return self.restore(calm[-1])

    def sample(self, step: int, timings: Timings) -> tuple[list[Sample], list[Sample]]:
        """The step's rollouts, and those of them that are learned from; the time that it takes is added to ``timings``.

        With ``zero_spread: refill`` groups without any spread are replaced by those of further prompts, for some rounds.
        """
        config = self.config
        wanted = config.rollout.prompts_per_step
        everything: list[Sample] = []
        kept: list[Sample] = []
        sampled = 0
        for round_ in range(1 + (config.filter.refill_rounds if config.filter.zero_spread == "refill" else 0)):
            missing = wanted - len({sample.group for sample in kept})
            if missing == 0:
                break
            chosen = [self.prompts[index] for index in self.order.take(self.position, missing)]
            self.position += missing
            seeds = [
                [step_seed(config.seed, step, round_, index, place) for place in range(config.rollout.group_size)]
                for index in range(missing)
            ]
            samples = collect(
                self.engine, self.reward, self.policy.decode, chosen, seeds, self.sampling(), step, sampled, timings
            )
            sampled += missing
            refuse_unscored(samples, self.reward.config.abort_above, f"step {step + 1}")
            everything += samples
            kept += samples if config.filter.zero_spread == "keep" else _with_spread(samples, config.algorithm.process)
            if config.filter.zero_spread == "drop" and not kept:
                self.run.console.message(f"step {step + 1}: no group has any spread, so nothing is learned")
        return everything, kept

    def sampling(self, temperature: float | None = None) -> Sampling:
        """How completions are drawn."""
        rollout = self.config.rollout
        return Sampling(
            rollout.max_new_tokens,
            rollout.temperature if temperature is None else temperature,
            rollout.top_p,
            rollout.top_k,
            tuple(rollout.stop),
        )

    def refuse_stale(self, learned: dict[str, float], step: int) -> None:
        """The sampler's weights must be the trainer's. Raises RewardkitError."""
        mismatch = learned.get("mismatch", 0.0)
        if mismatch > self.config.rollout.max_mismatch:
            raise RewardkitError(
                f"step {step + 1}: the sampler's log-probs differ from the trainer's by {mismatch:.3g} per token on average, more "
                f"than rollout.max_mismatch ({self.config.rollout.max_mismatch:g}): it samples from other weights than are trained"
            )

    def evaluate(self, step: int) -> None:
        """Greedy answers to the held-out prompts; the best model so far is kept.

        Scheduled weights are those of the last step, or a reward would seem to rise as its penalties fade.
        """
        if not self.held_out:
            return
        self.run.console.activity = f"evaluating {len(self.held_out):,} held-out prompts"
        last = self.config.steps
        sampling = replace(self.sampling(temperature=0.0), top_p=1.0, top_k=0)
        evaluation = evaluate(
            self.policy, self.engine, self.reward, self.held_out, sampling, condition=self.condition, step=last
        )
        refuse_unscored(evaluation.samples, self.reward.config.abort_above, f"the evaluation after step {step}")
        found = evaluation.summary()
        if self.gold is not None:
            own = collectives.share([sample.scored.rollout for sample in evaluation.samples])
            scored = collectives.gathered(self.gold.score(own, step=last))
            values = [item.reward for item in scored if item.reward is not None]
            if values:
                found["gold"] = fmean(values)
                self.alarms += self.monitors.watch_gold(found["reward"], found["gold"], standard_error(values))
        self.run.log(step, found, kind="eval")
        # One kind of figure for the whole run: where gold could not be scored, accuracy does not stand in for it.
        value = found.get("accuracy", found["reward"]) if self.gold is None else found.get("gold", math.nan)
        if step > 0:
            self.run.offer_best(value, self.policy.save)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights and optimiser."""
        return {
            "position": self.position,
            "best": self.run.best,
            "kl": self.updater.kl.value,
            "monitors": self.monitors.state(),
            "calm_step": self.calm_step,
        }

    def resume(self) -> int | None:
        """Go on from the latest checkpoint; returns how many steps are done, or None where there is none."""
        latest = self.run.checkpoints.latest()
        if latest is None:
            self.run.rewind(-1)
            return None
        step = self.restore(latest)
        self.run.rewind(step)
        self.run.console.resumed(step)
        return step

    def restore(self, checkpoint: Path) -> int:
        """Be as at a checkpoint; returns how many steps are done."""
        state = self.run.checkpoints.restore(checkpoint, self.parts)
        self.position = state["position"]
        self.run.take_back_best(state["best"])
        self.updater.kl.value = state["kl"]
        self.monitors.restore(state["monitors"])
        self.calm_step = state["calm_step"]
        self.engine.sync()
        step: int = state["step"]
        return step


def _greatest(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """The worst of each process's."""
    return {name: max(of[name] for of in figures) for name in figures[0]}


def _with_spread(samples: Sequence[Sample], process: ProcessConfig | None) -> list[Sample]:
    """Groups whose rewards are not all alike, nor those of their steps where these are learned from."""
    found = [(sample.group, value) for sample in samples for value in rewards_learned(sample, process)]
    groups = torch.tensor([group for group, _ in found], dtype=torch.long)
    flat = group_statistics(torch.tensor([value for _, value in found]), groups).is_flat_B()
    spread = set(groups[~flat].tolist())
    return [sample for sample in samples if sample.group in spread]
