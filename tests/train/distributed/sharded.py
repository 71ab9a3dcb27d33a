"""What each of several processes finds of a divided model: ``torchrun … sharded.py BASE FOLDER`` writes ``FOLDER/facts-RANK.json``."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from accelerate import PartialState
from torch import distributed, nn

from rewardkit.errors import ConfigError, Location, RewardkitError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.train.config import DpoConfig, LoraConfig, ModelConfig, OptimizerConfig
from rewardkit.train.data import batching
from rewardkit.train.data.preference_pairs import AnswerPair
from rewardkit.train.data.tokenization import Example
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.fsdp import full_tensor, shard_model
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.models.value_model import ValueModel
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights
from rewardkit.train.stages.dpo import DpoTask
from rewardkit.train.stages.sft import evaluate
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


@contextmanager
def counted(model):
    """Count the tokens that this process passes through a model, padding included, in a list of one number."""
    count = [0]

    def add(_module, args):
        count[0] += args[0].numel()

    handle = model.get_input_embeddings().register_forward_pre_hook(add)
    yield count
    handle.remove()


def shared_passes(base, sharded):
    """Return the tokens of this process and of one process alone, and the largest difference of the results, by pass."""
    answers = [
        Example(tuple(range(5, 5 + length)), 2, (1.0,) * (length - 2), "row")
        for length in (14, 13, 12, 11, 10, 9, 8, 7)
    ]
    pairs = [AnswerPair(*answers[place : place + 2]) for place in range(0, 8, 2)]
    rows = [TokenSpan(answer.tokens, 2) for answer in answers]
    sections = {"version": 1, "output": "unused", "model": {"path": base}, "micro_batch_tokens": 28}
    dpo = DpoConfig.model_validate(
        {**sections, "stage": "dpo", "data": {"train": "unused", "eval": "unused"}, "steps": 1}
    )
    policy = Policy.load(ModelConfig(path=base), sharded=sharded)
    critic = ValueModel(policy, own=True)
    nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    scorer = RewardModel.load(ModelConfig(path=base), sharded=sharded)

    def by_policy():
        found = DpoTask(dpo, policy, pairs, []).references
        return torch.stack([found.chosen_P, found.rejected_P], 1)

    passes = {
        "dpo_references": (policy.lm, by_policy),
        "critic": (critic.reader.lm, lambda: critic.estimate(rows, 28)),
        "sft_evaluation": (policy.lm, lambda: torch.tensor(list(evaluate(policy, answers, 28).values()))),
        "reward_model": (scorer.model, lambda: torch.tensor(scorer.score_all([row.tokens for row in rows], 28))),
    }
    found = {}
    for name, (model, run) in passes.items():
        with counted(model) as own:
            shared = run()
        with (
            counted(model) as whole,
            mock.patch.multiple(batching, rank=lambda: 0, size=lambda: 1),
            mock.patch.object(collectives, "all_reduce_sum", lambda values: values),
        ):
            alone = run()
        found[name] = [own[0], whole[0], float((shared - alone).abs().max())]
    return found


def summed_gradients(base):
    """Return how many collectives sum the gradients, in buckets and in one each, and whether the results are equal."""
    draw = torch.Generator().manual_seed(collectives.rank())
    parameters = list(Policy.load(ModelConfig(path=base)).trained.values())
    for parameter in parameters[collectives.rank() :]:  # the first has no gradient in the second process
        parameter.grad = torch.randn(parameter.shape, generator=draw)
    expected = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in parameters]
    for gradient in expected:
        distributed.all_reduce(gradient)
    with (
        mock.patch.object(collectives, "BUCKET_BYTES", 20_000),
        mock.patch.object(distributed, "all_reduce", wraps=distributed.all_reduce) as call,
    ):
        collectives.all_reduce_gradients(parameters)
    equal = all(torch.equal(one.grad, other) for one, other in zip(parameters, expected, strict=True))
    return [call.call_count, len(parameters), equal]


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
        "shared_passes": shared_passes(base, sharded=False),
        "shared_passes_sharded": shared_passes(base, sharded=True),
        "summed_gradients": summed_gradients(base),
    }
    (Path(folder) / f"facts-{collectives.rank()}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
