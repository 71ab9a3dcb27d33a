"""The weight sync check ends a run whose engine does not sample from the trained weights, and a checkpoint is saved."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from rewardkit import Rollout, hookimpl, reward
from rewardkit.errors import ConfigError, EngineError, UsageError
from rewardkit.registry import Registry
from rewardkit.rollout_engine import RolloutEngineType, Sampling
from rewardkit.train.config.base import Section
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.weight_sync_check import WeightSyncCheck
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: grpo
output: {folder}/out
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{main: {{use: digits}}}}}}
steps: 4
rollout: {{prompts_per_step: 4, group_size: 4, max_new_tokens: 8, engine: {engine}, weight_sync_check: {check}}}
optimizer: {{lr: 1.0e-3}}
evaluate: {{every: 0}}
checkpoint: {{every: 0}}
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


class CopyParams(Section):
    """The fault of the engine."""

    fault: str = ""
    after: int = 0
    """The number of syncs before the fault."""


class CopyEngine(HfEngine):
    """Samples from a copy of the weights whose head is a separate tensor."""

    is_repaired = False

    def __init__(self, params, setup):
        self.params, self.setup, self.syncs, self.closed = params, setup, 0, False
        mine = copy.copy(setup.policy)
        mine.model = copy.deepcopy(setup.policy.model)
        mine.lm, mine._head = mine.model, mine.model.get_output_embeddings()
        mine._head.weight = torch.nn.Parameter(mine._head.weight.detach().clone())
        super().__init__(mine)
        STARTED.append(self)

    def sync(self):
        """Take over all weights except those that the fault names."""
        self.syncs += 1
        fault = self.params.fault if self.syncs > self.params.after and not self.is_repaired else ""
        if fault == "all":
            return
        if fault == "raises":
            raise EngineError("the sampler's process is gone")
        own = self.policy.lm.state_dict()
        for name, tensor in self.setup.weights():
            if not fault or fault not in name:
                own[name].copy_(tensor)

    def close(self):
        """Record that the engine was closed."""
        self.closed = True


STARTED: list[CopyEngine] = []


class Plugin:
    """Offers the engine."""

    @hookimpl
    def register_rollout_engines(self):
        """Offer one engine, and one that needs a module that is not installed."""
        return [
            RolloutEngineType("copy", CopyEngine, CopyParams),
            RolloutEngineType("shares", CopyEngine, CopyParams, shares_weights=True),
            RolloutEngineType("absent", CopyEngine, CopyParams, modules={"no_such_module": "pip install no-such"}),
        ]


@pytest.fixture
def registry():
    """Return a registry with the engine and a reward."""
    found = Registry()
    found.register(digits)
    found.register(Plugin())
    assert not found.broken
    return found


def run(work, folder, registry, engine="copy", check="{}", **overrides):
    """Train, and return the metrics of the steps."""
    STARTED.clear()
    config = folder / "run.yaml"
    config.write_text(CONFIG.format(folder=folder, work=work, engine=engine, check=check))
    file = read_train_config(config, registry, overrides)
    launch(file, STAGES["grpo"].runner())
    lines = [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


def test_an_engine_in_sync_passes(work, tmp_path, registry):
    """The difference is logged with each step, and the engine is closed."""
    metrics = run(work, tmp_path, registry)
    assert [line["weight_sync_difference"] < 1e-5 for line in metrics] == [True] * 4
    assert all(line["seconds_sync"] > 0 for line in metrics)
    assert STARTED[0].closed


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("all", "bit for bit those from before the update"),
        ("lm_head.weight", "does not sample from the trained weights"),
        ("layers.0.mlp.down_proj.weight", "does not sample from the trained weights"),
        ("raises", "the sampler's process is gone"),
    ],
)
def test_an_engine_out_of_sync_ends_the_run(work, tmp_path, registry, fault, message):
    """The run stops, closes the engine and saves a checkpoint if the engine does not take over weights."""
    engine = f"{{use: copy, with: {{fault: {fault}, after: 2}}}}"
    with pytest.raises(EngineError, match=message) as error:
        run(work, tmp_path, registry, engine, check="{limit: 1.0e-5}")
    assert STARTED[0].closed
    kept = json.loads(next((tmp_path / "out/checkpoints").glob("*/state.json")).read_text())
    assert f"a checkpoint after step {kept['step']} is saved in" in str(error.value)
    assert kept["step"] == (tmp_path / "out/metrics.jsonl").read_text().count('"kind":"train"')


def test_even_a_small_update_must_arrive(work, tmp_path, registry):
    """An engine that is unchanged to the last bit is noticed even if the update is far below the limit."""
    with pytest.raises(EngineError, match="bit for bit those from before the update"):
        run(work, tmp_path, registry, "{use: copy, with: {fault: all}}", **{"optimizer.lr": "1.0e-5"})


def test_a_run_goes_on_from_what_an_engine_left(work, tmp_path, registry, monkeypatch):
    """The same command does each remaining step once, with an engine that works again."""
    engine = "{use: copy, with: {fault: raises, after: 2}}"
    with pytest.raises(EngineError):
        run(work, tmp_path, registry, engine)
    monkeypatch.setattr(CopyEngine, "is_repaired", True)
    metrics = run(work, tmp_path, registry, engine)
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]


def test_the_check_can_be_switched_off(work, tmp_path, registry):
    """``every: 0`` switches the check off; the metrics still have the difference on rollouts."""
    metrics = run(work, tmp_path, registry, "{use: copy, with: {fault: all}}", check="{every: 0}")
    assert not any("weight_sync_difference" in line for line in metrics)
    assert metrics[-1]["sampling_logp_difference"] > 1e-4


def test_an_engine_with_shared_weights_is_checked_once(work, tmp_path, registry):
    """The engine hf shares the weights, so only its first completions are checked."""
    metrics = run(work, tmp_path, registry, "hf")
    assert metrics[0]["weight_sync_difference"] < 1e-5
    assert not any("weight_sync_difference" in line for line in metrics[1:])


def test_an_engine_that_answers_nonsense_is_told(policy):
    """Missing completions or log-probs are an error."""

    class Mute(HfEngine):
        def generate(self, requests, sampling):
            for part in super().generate(requests, sampling):
                yield [(index, [replace(item, logprobs=()) for item in items]) for index, items in part]

    class Forgetful(HfEngine):
        def generate(self, requests, sampling):
            for part in super().generate(requests, sampling):
                yield [(index, items) for index, items in part if index]

    with pytest.raises(EngineError, match="for 2 of 3 prompts"):
        WeightSyncCheck(policy, Forgetful(policy), [[2, 3]], Sampling(8), 64).check()
    check = WeightSyncCheck(policy, Mute(policy), [[2, 3]], Sampling(8), 64)
    with pytest.raises(EngineError, match="inconsistent completion: 8 tokens with 0 log-probs"):
        check.check()


@pytest.mark.parametrize(
    ("engine", "line", "message"),
    [
        ("vlm", 9, "no plugin offers a rollout engine 'vlm'; did you mean vllm?"),
        ("{use: copy, with: {falt: all}}", 9, "unknown key 'falt' in rollout.engine.with; did you mean 'fault'?"),
        ("{use: copy, with: {after: soon}}", 9, "rollout.engine.with.after must be a whole number"),
        ("{with: {}}", 9, "rollout.engine lacks the key 'use'"),
        ("{use: hf, with: {batch: 3}}", 9, "unknown key 'batch' in rollout.engine.with"),
        ("{use: vllm, with: {gpu_memory_utilization: 1.5}}", 9, "gpu_memory_utilization must be at most 1"),
        ("{use: vllm}, top_p: 0.9, temperature: 0.7", 9, "rollout.engine vllm: with top_p or top_k vLLM reports"),
    ],
)
def test_a_wrong_engine_is_told_with_its_place(work, tmp_path, registry, engine, line, message):
    """Names and parameters of engines are checked with file, line and column."""
    with pytest.raises(ConfigError) as error:
        run(work, tmp_path, registry, engine)
    place, text = error.value.problems[0]
    assert (place.line, bool(place.column), message in text) == (line, True, True), str(error.value)


def test_an_engine_that_shares_tensors_cannot_sample_from_sharded_ones(work, tmp_path, registry):
    """An engine that shares the trainer's tensors is refused with fsdp: true; one that copies weights is not."""
    config = tmp_path / "run.yaml"
    text = CONFIG.format(folder=tmp_path, work=work, engine="shares", check="{}") + "fsdp: true\n"
    config.write_text(text)
    with pytest.raises(
        ConfigError, match=r"run\.yaml:9:\d+: rollout\.engine shares samples from the trainer's own tensors"
    ):
        read_train_config(config, registry)
    config.write_text(text.replace("engine: shares", "engine: copy"))
    assert read_train_config(config, registry).config.fsdp


def test_a_clash_with_the_cores_names_is_told(work, tmp_path, registry):
    """A plugin that also offers ``vllm`` is named beside rewardkit."""

    class Twin:
        @hookimpl
        def register_rollout_engines(self):
            return [RolloutEngineType("vllm", CopyEngine, CopyParams)]

    registry.register(Twin())
    with pytest.raises(
        ConfigError, match=r"rollout engine 'vllm' is offered by more than one plugin: rewardkit .* and this program"
    ):
        run(work, tmp_path, registry, "vllm")


def test_what_an_engine_needs_is_told_before_anything_runs(work, tmp_path, registry):
    """The error says how to install the missing package."""
    with pytest.raises(
        UsageError, match="absent needs no_such_module, which is not installed; install it with: pip inst"
    ):
        run(work, tmp_path, registry, "absent")
    assert not (tmp_path / "out").exists()
