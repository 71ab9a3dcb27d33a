"""The loop of reinforcement learning: prompts → rollouts → scores → advantages → loss → update → weight sync, in ``Trainer.step``.

``PolicyUpdater`` defines how a policy is updated from scored rollouts; GRPO and PPO differ there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rewardkit.composite import CompositeReward
from rewardkit.errors import EngineError, RewardkitError
from rewardkit.rollout_engine import Sampling
from rewardkit.train.config import ProcessConfig, RlConfig
from rewardkit.train.config.algorithms import resolve_algorithm
from rewardkit.train.config.monitors import all_monitors
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.mixture import order_of_rows, source_counts
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_on_all_ranks
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.evaluation.correctness import correct_condition, evaluation_warning
from rewardkit.train.losses.advantages import group_statistics
from rewardkit.train.models.packing import resolve_packing, resolve_prompt_sharing
from rewardkit.train.models.policy import Policy
from rewardkit.train.monitoring import rollout_metrics
from rewardkit.train.monitoring.costs import CostMeter
from rewardkit.train.monitoring.monitors import Monitors
from rewardkit.train.rollout.generate import Sample, Timings, collect, refuse_unscored
from rewardkit.train.rollout.prompt_exchange import can_exchange, exchanged_rewards
from rewardkit.train.rollout.prompts import load_prompts
from rewardkit.train.rollout.synced_engine import SyncedEngine
from rewardkit.train.rollout.verdicts import ask_again
from rewardkit.train.run_folder import FINAL
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.alarms import AlarmResponse
from rewardkit.train.trainer.checkpoint import step_of
from rewardkit.train.trainer.held_out_evaluation import HeldOutEvaluation
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import PolicyUpdater
from rewardkit.train.trainer.rollout_batch import RolloutBatch, build_rollout_batch, training_rewards
from rewardkit.train.trainer.run import AlarmError, Run


def train(file: TrainFile, config: RlConfig, make_updater: Callable[[Policy, Optimizer], PolicyUpdater]) -> Path:
    """Run a stage of reinforcement learning.

    Args:
        file: The configuration's file.
        config: The configuration.
        make_updater: Makes the updater of a policy with its optimiser.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The model does not exist, or the reward refuses its parameters.
        DataError: The data can't be used, or lack a column that the reward reads.
        TooManyUnscoredError: More of a step's rollouts could not be scored than the reward file allows.
        OutputError: The run's folder can't be written.
        NonFiniteError: A loss, a gradient or a weight is infinite or NaN.
        AlarmError: An alarm ended the run.
        Interrupted: The run was interrupted; it can be resumed.
    """
    assert file.reward is not None  # noqa: S101 - the schema requires one
    assert file.engine is not None  # noqa: S101 - it has a default
    file.engine.require()
    place = file.where("evaluate", "correct")
    condition = correct_condition(config.evaluate.correct, file.reward.component_names, place)
    with (
        ExitStack() as scope,
        CompositeReward(file.reward, registry=file.registry, workers=config.reward_workers) as reward,
    ):
        reward.preflight()
        place = file.where("model", "path")
        policy = Policy.load(
            config.model,
            place,
            seed=config.seed,
            sharded=config.fsdp,
            stop=config.rollout.stop,
            skip_special_tokens=config.rollout.skip_special_tokens,
        )
        policy.packing = resolve_packing(policy, config.packing, file.where("packing"))
        policy.sharing = resolve_prompt_sharing(policy, config.packing)
        prompts, left_out = load_prompts(config, policy, [file.reward], config.data.train, place)
        measured = [file.reward, *([] if file.gold is None else [file.gold])]
        all_held_out, held_out_left_out = load_prompts(config, policy, measured, config.data.eval, place)
        held_out = all_held_out[: config.evaluate.limit]
        facts = {
            "reward": file.reward.resolved,
            "reward_id": reward.reward_id,
            "engine": file.engine.record(),
            "loss": resolve_algorithm(config.algorithm).loss.record(),
            "prompts": len(prompts),
            "prompts_too_long": left_out + held_out_left_out,
        }
        run = scope.enter_context(Run.open(file, config.steps, facts))
        for count, kind, used in ((left_out, "training", prompts), (held_out_left_out, "held-out", all_held_out)):
            if count:
                run.console.message(
                    f"{count} of {count + len(used)} {kind} prompts are left out: with rollout.max_new_tokens "
                    f"({config.rollout.max_new_tokens}) they exceed the model's context of {policy.context} tokens"
                )
        if (warning := evaluation_warning(config, file.reward)) is not None:
            run.console.message(warning)
        optimizer = Optimizer(
            policy.trained, config.optimizer, config.steps, policy.sharded, has_router_loss=policy.has_router_loss
        )
        gold = scope.enter_context(CompositeReward(file.gold, registry=file.registry)) if file.gold else None
        updater = make_updater(policy, optimizer)
        tokens = [prompt.tokens for prompt in (*prompts, *held_out)]
        engine = SyncedEngine(file.engine, config.model, config.rollout, policy, tokens, sampling_of(config))
        scope.callback(engine.close)
        evaluations = config.steps // config.evaluate.every if config.evaluate.every else 1
        monitors = Monitors(config.monitors, all_monitors(file.registry), evaluations=evaluations)
        evaluation = HeldOutEvaluation(
            config, run, policy, engine, reward, gold, condition, held_out, sampling_of(config), monitors
        )
        return Trainer(config, run, policy, reward, updater, prompts, engine, monitors, evaluation).train()


def sampling_of(config: RlConfig) -> Sampling:
    """Return how the completions of rollouts are drawn."""
    rollout = config.rollout
    return Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k, tuple(rollout.stop))


class Trainer:
    """Runs the steps of a stage of reinforcement learning."""

    def __init__(
        self,
        config: RlConfig,
        run: Run,
        policy: Policy,
        reward: CompositeReward,
        updater: PolicyUpdater,
        prompts: Sequence[Prompt],
        engine: SyncedEngine,
        monitors: Monitors,
        evaluation: HeldOutEvaluation,
    ) -> None:
        self.config = config
        self.run = run
        self.policy = policy
        self.reward = reward
        self.updater = updater
        self.prompts = prompts
        self.engine = engine
        self.evaluation = evaluation
        self.costs = CostMeter(reward)
        self.alarms = AlarmResponse(config.monitors, monitors)
        self.exchanges_prompts = config.monitors.prompt_independence is not None and can_exchange(reward.config)
        self.order = order_of_rows(
            config.data, source_counts(config.data, (prompt.source for prompt in prompts)), config.seed
        )
        self.position = 0
        """Number of prompts taken so far."""

    def train(self) -> Path:
        """Run the remaining steps, and return the folder of the trained model."""
        run, config = self.run, self.config
        resumed = self.resume()
        self.policy.model.train()
        if resumed is None:
            self.evaluate(0)
            if run.must_stop():
                raise run.interrupted(0)
            if self.alarms.rolls_back:
                self.save_checkpoint(0)
        for step in run.steps(resumed or 0):
            with self.checkpoint_on_engine_error(step):
                self.step(step)
            done = step + 1
            evaluated = run.is_due(done, config.evaluate.every)
            if evaluated:
                with self.checkpoint_on_engine_error(done):
                    self.evaluate(done)
            if self.alarms.pending:
                self.respond_to_alarms(done)
            stop = run.must_stop()
            if stop or run.is_due(done, config.checkpoint.every) or (self.alarms.rolls_back and evaluated):
                self.save_checkpoint(done)
            if stop and done < config.steps:
                raise run.interrupted(done)
        return run.save_model(self.policy.save, FINAL)

    @contextmanager
    def checkpoint_on_engine_error(self, done: int) -> Iterator[None]:
        """Save a checkpoint of ``done`` steps if the rollout engine fails inside."""
        position = self.position
        try:
            yield
        except EngineError as error:
            self.position = position
            if done == 0:
                raise
            self.save_checkpoint(done)
            raise EngineError(
                f"{error}; a checkpoint after step {done} is saved in {self.run.checkpoints.folder}: run the same command again to resume"
            ) from error

    def step(self, step: int) -> None:
        """Do one step, from prompts to new weights.

        Args:
            step: Number of the step, from 0.
        """
        began = time.monotonic()
        timings, synced = Timings(), self.engine.seconds_sync
        with running_pass(f"the rollouts of step {step + 1}"):
            samples, kept = self.sample(step, timings)
            sampled_at = time.monotonic()
            exchanged = exchanged_rewards(samples, self.reward, step) if self.exchanges_prompts else []
            scored = [sample for sample in kept if training_rewards(sample, self.config.algorithm.process)]
            batch = self.ask_again(build_rollout_batch(scored, self.config, self.policy.decode), scored, step)
            timings.waiting += time.monotonic() - sampled_at
        with raise_on_all_ranks():
            self.engine.sleep()
        collected, synced = time.monotonic(), self.engine.seconds_sync - synced
        with running_pass(f"the update of step {step + 1}"):
            updated = self.updater.update(batch, step)
        self.refuse_stale_weights(updated, step)
        self.engine.sync()
        ended = time.monotonic()
        tokens = sum(len(sample.completion.written) for sample in samples)
        sampled, used = (len({sample.group for sample in some}) for some in (samples, kept))
        metrics = {
            **rollout_metrics.rewards(samples),
            **updated,
            **_maximum(collectives.all_gather([self.engine.metrics])),
            **rollout_metrics.components(samples),
            **self.costs.step(),
            **rollout_metrics.prompt_independence(exchanged),
            **rollout_metrics.further_verdicts(batch.verdicts),
            **rollout_metrics.staleness(samples, step),
            "prompts_sampled": sampled,
            **({} if self.config.filter.zero_std == "keep" else {"prompts_kept": used / sampled}),
            "tokens": tokens,
            "tokens_per_s": tokens / (ended - began),
            "scoring_seconds": timings.scoring,
            "seconds_generate": collected - began - timings.waiting - synced,
            "seconds_sync": synced,
            "seconds_await_scores": timings.waiting,
            "seconds_update": ended - collected,
            "seconds": ended - began,
        }
        self.run.log(step + 1, metrics, rollouts=[sample.scored for sample in samples])
        self.alarms.watch(metrics)
        self.run.log_samples(
            step + 1, [rollout_metrics.record(sample) for sample in samples[: self.config.log.samples]]
        )

    def ask_again(self, batch: RolloutBatch, scored: Sequence[Sample], step: int) -> RolloutBatch:
        """Ask a verifier that errs again about completions in doubt, if ``correction.verifier`` says so."""
        noise = self.config.correction.verifier
        if noise is None or noise.ask == 1 or batch.verdicts is None:
            return batch
        return replace(batch, verdicts=ask_again(batch.verdicts, batch.groups_B, scored, self.reward, noise, step))

    def evaluate(self, step: int) -> None:
        """Evaluate the policy on the held-out prompts after ``step`` steps."""
        with running_pass(f"the evaluation after step {step}"):
            self.alarms.pending += self.evaluation.evaluate(step)

    def sample(self, step: int, timings: Timings) -> tuple[list[Sample], list[Sample]]:
        """Sample and score the step's rollouts.

        With ``filter.zero_std: refill`` groups without different rewards are replaced by those of further prompts, for some rounds
        (dynamic sampling, https://arxiv.org/abs/2503.14476).

        Args:
            step: Number of the step, from 0.
            timings: The time that this takes is added here.

        Returns:
            All rollouts, and those that are trained on.
        """
        config = self.config
        wanted = config.rollout.prompts_per_step
        everything: list[Sample] = []
        kept: list[Sample] = []
        sampled = 0
        for round_ in range(1 + (config.filter.refill_rounds if config.filter.zero_std == "refill" else 0)):
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
                self.engine, self.reward, self.policy.decode, chosen, seeds, sampling_of(config), step, sampled, timings
            )
            sampled += missing
            refuse_unscored(samples, self.reward.config.abort_above, f"step {step + 1}")
            everything += samples
            kept += samples if config.filter.zero_std == "keep" else _with_spread(samples, config.algorithm.process)
            if config.filter.zero_std == "drop" and not kept:
                self.run.console.message(
                    f"step {step + 1}: all groups have equal rewards, so the policy is not updated"
                )
        return everything, kept

    def refuse_stale_weights(self, metrics: dict[str, float], step: int) -> None:
        """Raise RewardkitError if the rollout engine samples from other weights than those of the policy."""
        difference = metrics.get("sampling_logp_difference", 0.0)
        limit = self.config.rollout.max_sampling_logp_difference
        if not difference <= limit:  # also if it is NaN
            raise RewardkitError(
                f"step {step + 1}: the log-probs of rollout engine and trainer differ by {difference:.3g} per token on average, more than "
                f"rollout.max_sampling_logp_difference ({limit:g}): the engine does not sample from the trained weights"
            )

    # --- alarms --------------------------------------------------------------------------------------------------------

    def respond_to_alarms(self, done: int) -> None:
        """Log the alarms of the step, and do what ``monitors.on_alarm`` says.

        Raises:
            AlarmError: The alarms end the run.
        """
        alarms = self.alarms.take()
        for alarm in alarms:
            self.run.alarm(done, alarm)
        messages = "; ".join(alarm.message for alarm in alarms)
        match self.config.monitors.on_alarm:
            case "stop":
                self.save_checkpoint(done)
                raise AlarmError(
                    f"stopped after step {done}: {messages}; a checkpoint is saved in {self.run.checkpoints.folder}"
                )
            case "rollback":
                step = self.roll_back()
                path = self.run.save_model(self.policy.save, FINAL)
                raise AlarmError(
                    f"rolled back from step {done} to step {step}: {messages}; that model is saved in {path}, and the same command "
                    "resumes from there"
                )

    def roll_back(self) -> int:
        """Restore the latest checkpoint without trouble, remove the later ones, and return its step.

        Raises:
            AlarmError: There is no such checkpoint.
        """
        calm = [path for path in self.run.checkpoints.all() if step_of(path) <= self.alarms.calm_step]
        if not calm:
            raise AlarmError(
                f"there is no checkpoint from before the alarm; the latest one is in {self.run.checkpoints.folder}"
            )
        self.run.checkpoints.drop_after(step_of(calm[-1]))
        return self.restore(calm[-1])

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def save_checkpoint(self, done: int) -> None:
        """Save a checkpoint after ``done`` steps."""
        # Whether the policy exploits the reward is only known right after an evaluation by the held-out reward.
        if self.evaluation.gold is None or self.run.is_due(done, self.config.evaluate.every):
            self.alarms.note_checkpoint(done)
        with running_pass(f"the checkpoint after step {done}"):
            self.run.checkpoints.save(done, self.updater.checkpoint_parts(), self.state(), spare=self.alarms.calm_step)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside weights and optimisers, as JSON data."""
        return {
            "position": self.position,
            "best": self.run.best,
            "kl": self.updater.kl.value,
            **self.alarms.state(),
        }

    def resume(self) -> int | None:
        """Resume from the latest checkpoint, and return its number of steps; None if there is no checkpoint."""
        latest = self.run.checkpoints.latest()
        if latest is None:
            self.run.rewind(-1)
            return None
        step = self.restore(latest)
        self.run.rewind(step)
        self.run.console.resumed(step)
        return step

    def restore(self, checkpoint: Path) -> int:
        """Restore a checkpoint, and return its number of steps."""
        state = self.run.checkpoints.restore(checkpoint, self.updater.checkpoint_parts())
        self.position = state["position"]
        self.run.reset_best(state["best"])
        self.updater.kl.value = state["kl"]
        self.alarms.restore(state)
        self.engine.sync()
        step: int = state["step"]
        return step


def _maximum(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the largest value of each metric over the processes."""
    return {name: max(of[name] for of in metrics) for name in metrics[0]}


def _with_spread(samples: Sequence[Sample], process: ProcessConfig | None) -> list[Sample]:
    """Return the groups whose rewards (or rewards of steps) differ."""
    found = [(sample.group, value) for sample in samples for value in training_rewards(sample, process)]
    groups = torch.tensor([group for group, _ in found], dtype=torch.long)
    flat = group_statistics(torch.tensor([value for _, value in found]), groups).is_flat_B()
    spread = set(groups[~flat].tolist())
    return [sample for sample in samples if sample.group in spread]
