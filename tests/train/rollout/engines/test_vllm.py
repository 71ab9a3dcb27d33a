"""The engine ``vllm`` for real, on a CPU: the contract, weights by every road, the check, deadlines, and nothing left behind.

vLLM pins other versions of some packages than everything else here, so ``make test-vllm`` runs this in an environment of its own.
"""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from rewardkit.errors import EngineError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.testing import RolloutEngineContract
from rewardkit.testing.engine_contract import write_model
from rewardkit.train.config import LoraConfig, ModelConfig
from rewardkit.train.config.vllm import VllmParams
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.rollout.engines.vllm import VllmEngine
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights
from rewardkit.train.rollout.synced_engine import setup_of
from rewardkit.train.rollout.weight_sync_check import WeightSyncCheck

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # vLLM's own
]
LONG = "12+34=46, 56+78=134; " * 5


class TestVllm(RolloutEngineContract):
    """The contract of rollout engines, for the engine ``vllm``."""

    engine = "vllm"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return ModelConfig(path=str(folder))


@pytest.fixture(scope="module")
def shared(model):
    """Return an engine for this module's tests, and the process state that starting it must not change."""
    setup = setup_of(model, Policy.load(model), Sampling(16), longest=160, batch=16)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.set_num_threads
    engine = VllmEngine(VllmParams(), setup)
    assert torch.equal(torch.get_rng_state(), before[0])
    yield engine, before
    engine.close()
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vLLM"]
    assert not torch.distributed.is_initialized()


@pytest.fixture
def pair(shared, model):
    """Return the engine, in sync with this test's policy."""
    return connect(shared[0], Policy.load(model))


def connect(engine, policy):
    """Let an engine follow a policy."""
    engine.setup = dataclasses.replace(
        engine.setup, policy=policy, weights=lambda: checkpoint_weights(policy.lm), eos_ids=policy.eos_ids
    )
    engine.params = VllmParams()
    engine.sync()
    return engine, policy


def move(policy, scale=0.05):
    """Update all trained weights."""
    with torch.no_grad():
        for value in policy.trained.values():
            value.add_(scale * torch.randn(value.shape))


def apart(engine, policy):
    """Return the largest difference of log-probs of some rollouts."""
    tokens = tuple(policy.tokenizer(LONG)["input_ids"])
    ((_, completions),) = [
        item for part in engine.generate([Request(tokens, [1, 2, 3])], Sampling(16)) for item in part
    ]
    worst = 0.0
    for completion in completions:
        with torch.no_grad():
            judged = policy.forward_logprobs([TokenSpan((*tokens, *completion.tokens), len(tokens))])
        worst = max(worst, float((judged.logprobs_B_T[0] - torch.tensor(completion.logprobs)).abs().max()))
    return worst


def check(engine, policy):
    """Return the weight sync check as a run makes it."""
    return WeightSyncCheck(policy, engine, [policy.tokenizer("1+2=?")["input_ids"]], Sampling(16), 160)


def test_starting_it_changes_nothing_else(shared):
    """Thread settings and random number generators are unchanged."""
    _, threads, setter = shared[1]
    assert torch.get_num_threads() == threads
    assert torch.set_num_threads is setter


def test_a_second_one_in_a_process_is_refused(shared, model):
    """A process can have only one vLLM, and the first keeps working."""
    with pytest.raises(EngineError, match="one vLLM at a time"):
        VllmEngine(VllmParams(), shared[0].setup)
    assert list(shared[0].generate([Request((2, 3), [1])], Sampling(4)))


def test_adapters_are_merged_on_the_way(pair, model):
    """The engine samples from the policy with its adapters merged, and the policy is unchanged."""
    engine, _ = pair
    policy = Policy.load(model.model_copy(update={"lora": LoraConfig(rank=4)}))
    move(policy, 0.2)
    before = {name: value.detach().clone() for name, value in policy.model.named_parameters()}
    connect(engine, policy)
    assert apart(engine, policy) < 1e-4
    assert all(torch.equal(value, before[name]) for name, value in policy.model.named_parameters())


def test_weights_may_go_through_a_file(pair):
    """Weights can be sent through a file, as for several GPUs."""
    engine, policy = pair
    engine.params = VllmParams(tensor_parallel_size=2)
    move(policy)
    engine.sync()
    assert apart(engine, policy) < 1e-4


def test_a_complete_sync_passes_the_check(pair):
    """The check passes after each update."""
    engine, policy = pair
    watch = check(engine, policy)
    for _ in range(3):
        assert watch.check().mean_difference < 1e-5
        move(policy, 0.01)
        engine.sync()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nothing arrives", "bit for bit those from before the update"),
        ("a tensor is left out", "does not sample from the trained weights"),
        ("the tied head is not updated", "does not sample from the trained weights"),
        ("the prefix cache is kept", "does not sample from the trained weights"),
    ],
)
def test_the_check_finds_an_incomplete_sync(pair, monkeypatch, fault, message):
    """Each way in which weights can be stale is found."""
    engine, policy = pair
    watch = check(engine, policy)
    watch.check()
    whole = engine.setup.weights
    left_out = {"a tensor is left out": "layers.1.mlp.up_proj", "the tied head is not updated": "lm_head"}.get(fault)
    if left_out:
        partly = lambda: (item for item in whole() if left_out not in item[0])  # noqa: E731
        engine.setup = dataclasses.replace(engine.setup, weights=partly)
    if fault == "nothing arrives":
        monkeypatch.setattr(engine, "_hand_over", lambda weights: None)
    if fault == "the prefix cache is kept":
        monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: True)
    move(policy)
    engine.sync()
    with pytest.raises(EngineError, match=message):
        watch.check()
    monkeypatch.undo()
    connect(engine, policy)


def test_truncated_sampling_needs_an_engine_made_for_it(pair):
    """The engine does not report log-probs of another kind."""
    with pytest.raises(EngineError, match="started for sampling without top_p and top_k"):
        list(pair[0].generate([Request((2, 3), [1])], Sampling(4, top_k=3)))


def test_what_vllm_raises_is_told_with_what_was_done(pair):
    """An error such as a prompt that is too long names the operation, and the engine keeps working."""
    engine, policy = pair
    with pytest.raises(EngineError, match=r"vLLM failed while sampling: .*160"):
        list(engine.generate([Request((2,) * 400, [1])], Sampling(4)))
    assert apart(engine, policy) < 1e-4


def test_a_call_that_hangs_is_an_error(model, shared):
    """The call ends, later calls fail at once, and closing does not hang."""
    engine = VllmEngine.__new__(VllmEngine)
    engine.__dict__ |= shared[0].__dict__
    from rewardkit.train.rollout.engines.deadline_thread import DeadlineThread

    engine._thread = DeadlineThread("hanging vLLM")
    engine._llm = object()
    engine.params = VllmParams(timeout_s=0.2)
    free = threading.Event()
    engine._take_over = free.wait
    try:
        with pytest.raises(EngineError, match=r"taking over weights made no progress for 0\.2 s"):
            engine.sync()
        with pytest.raises(EngineError, match="was abandoned: taking over weights never ended"):
            list(engine.generate([Request((2, 3), [1])], Sampling(4)))
        engine.close()
    finally:
        free.set()
