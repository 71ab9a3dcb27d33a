"""What each of several processes finds of a divided model: ``torchrun … sharded.py BASE FOLDER`` writes ``FOLDER/facts-RANK.json``."""

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from rewardkit.errors import ConfigError, Location, RewardkitError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.train.config import LoraConfig, ModelConfig, OptimizerConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import full_tensor, shard_model
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights
from rewardkit.train.trainer.optimizer import Optimizer

ROWS = [TokenSpan(tuple(range(5, 5 + length)), 1) for length in (12, 9, 7)]


def held(tensors):
    """Bytes of this process."""
    return sum(getattr(tensor, "_local_tensor", tensor).nbytes for tensor in tensors)


def learner(base, sharded, scale=1.0):
    """A policy with its optimiser, and gradients of some rows."""
    policy = Policy.load(ModelConfig(path=base), sharded=sharded)
    optimizer = Optimizer(policy.trained, OptimizerConfig(lr=1e-2), 10, policy.sharded)

    def backward(part):
        (scale * policy.forward_logprobs([ROWS[row] for row in part]).logprobs_B_T.sum()).backward()

    optimizer.accumulate([len(row.tokens) for row in ROWS], 12, backward)
    return policy, optimizer


def kept(base, sharded):
    """Bytes of weights, gradients and moments."""
    policy, optimizer = learner(base, sharded)
    weights = list(policy.model.parameters())
    gradients = [value.grad for value in weights if value.grad is not None]
    found = {"weights": held(weights), "gradients": held(gradients)}
    optimizer.step(0)
    moments = [value for state in optimizer.adamw.state.values() for value in state.values()]
    return {**found, "moments": held(moments)}


def engine_weights(base, sharded):
    """What an engine is given of a model with adapters that do something."""
    policy = Policy.load(ModelConfig(path=base, lora=LoraConfig(rank=2)), sharded=sharded)
    with torch.no_grad():
        for name, value in policy.trained.items():
            if "lora_B" in name:
                value.fill_(0.01)
    return dict(checkpoint_weights(policy.lm))


def sampled(policy):
    """Completions, of which the first process has more to sample than the others; then a pass of all together."""
    prompts = [(5, 6), (7, 8, 9), (5,)] if collectives.is_main_process() else []
    requests = [Request(prompt, [1]) for prompt in prompts]
    done = [tokens for part in HfEngine(policy, 1).generate(requests, Sampling(6)) for tokens in part]
    tokens = [list(completions[0].tokens) for _, completions in done]
    return tokens, policy.forward_logprobs(ROWS).logprobs_B_T.detach()


def refused(base):
    """What is said of a model that can't be divided."""
    model = Policy.load(ModelConfig(path=base)).model
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    try:
        shard_model(model, torch.device("cpu"), Location("run.yaml", 3, 8))
    except ConfigError as error:
        return str(error)


def out_of_memory(base):
    """What is said when memory runs out in a micro-batch."""
    _, optimizer = learner(base, sharded=True)

    def backward(_part):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    try:
        optimizer.accumulate([3, 3, 3, 3], 6, backward)
    except RewardkitError as error:
        return str(error)


def not_finite(base):
    """Return whether a gradient that is not finite in one process stops all of them, with unchanged weights."""
    policy, optimizer = learner(base, sharded=True, scale=1.0 if collectives.is_main_process() else float("inf"))
    before = [value.to_local().clone() for value in policy.trained.values()]
    try:
        optimizer.step(0)
    except NonFiniteError:
        return all(
            torch.equal(value.to_local(), old) for value, old in zip(policy.trained.values(), before, strict=True)
        )
    return False


def in_bfloat16(base):
    """Return whether sharded training in bfloat16 gives the weights of unsharded training, with and without adapters."""
    results = []
    for lora in (None, LoraConfig(rank=2)):
        config = ModelConfig(path=base, dtype="bfloat16", lora=lora)
        after = []
        for sharded in (False, True):
            policy = Policy.load(config, sharded=sharded)
            optimizer = Optimizer(policy.trained, OptimizerConfig(lr=1e-2), 10, policy.sharded)
            for step in range(3):
                optimizer.accumulate(
                    [len(row.tokens) for row in ROWS],
                    12,
                    lambda part, policy=policy: (
                        policy.forward_logprobs([ROWS[row] for row in part]).logprobs_B_T.sum().backward()
                    ),
                )
                optimizer.step(step)
            after.append({name: full_tensor(value.detach()) for name, value in policy.trained.items()})
        results.append(
            all(
                torch.allclose(value, after[1][name], atol=1e-3, rtol=1e-2) and value.dtype == torch.float32
                for name, value in after[0].items()
            )
        )
    return results


def main(base, folder):
    """Find out everything."""
    PartialState()
    whole, divided = engine_weights(base, sharded=False), engine_weights(base, sharded=True)
    own, passed = sampled(Policy.load(ModelConfig(path=base)))
    own_divided, passed_divided = sampled(Policy.load(ModelConfig(path=base), sharded=True))
    facts = {
        "kept": kept(base, sharded=False),
        "kept_divided": kept(base, sharded=True),
        "engine_weights": list(whole) == list(divided)
        and all(torch.equal(whole[name], divided[name]) for name in whole),
        "sampled": own == own_divided and torch.equal(passed, passed_divided),
        "refused": refused(base),
        "out_of_memory": out_of_memory(base),
        "not_finite": not_finite(base),
        "in_bfloat16": in_bfloat16(base),
    }
    (Path(folder) / f"facts-{collectives.rank()}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
