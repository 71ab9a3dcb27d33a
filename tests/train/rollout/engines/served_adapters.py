"""Trains with the engine ``vllm`` on a stand-in for the package vllm: ``served_adapters.py CONFIG FOLDER``.

The stand-in keeps base weights and adapters of its own, changes them only as vLLM does, and samples with them. What it samples with is
written to ``FOLDER/RANK-NUMBER.safetensors`` whenever it differs from before.
"""

import sys
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewardkit import Rollout, hookimpl, reward
from rewardkit.errors import RewardkitError
from rewardkit.registry import Registry
from rewardkit.rollout_engine import Request, RolloutEngineType, Sampling
from rewardkit.train.config.reading import read_train_config, stage_of
from rewardkit.train.config.stages import STAGES
from rewardkit.train.config.vllm import VllmParams
from rewardkit.train.distributed import collectives
from rewardkit.train.models.policy import Policy
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.engines.vllm import VllmEngine
from rewardkit.train.trainer.launch import launch

FOLDER = Path()


class StandIn:
    """What the engine needs of ``vllm.LLM``, and of its ``llm_engine``."""

    def __init__(self, model, tokenizer, enable_lora, **_):
        assert enable_lora
        self.base = AutoModelForCausalLM.from_pretrained(model)
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.policy = None
        self.llm_engine = self
        self.engine_core = SimpleNamespace(shutdown=lambda: None)
        self.waiting = []
        self.numbers = count()
        self.written = None

    def collective_rpc(self, name, kwargs):
        """Take over base weights."""
        assert name == "reload_weights"
        assert self.policy is None, "the base is sent once"
        self.base.load_state_dict({name: value.clone() for name, value in kwargs["weights_iterator"]})

    def add_lora(self, request):
        """Load adapters from their folder, which is removed afterwards."""
        import peft

        if self.policy is None:
            model = peft.PeftModel.from_pretrained(self.base, request.path)
            self.policy = Policy(model, self.tokenizer, torch.device("cpu"))
        found = load_file(Path(request.path) / "adapter_model.safetensors")
        peft.set_peft_model_state_dict(self.policy.model, found)
        return True

    def reset_prefix_cache(self):
        """Say that there is nothing in it."""
        return True

    def enqueue(self, prompts, settings, lora_request, use_tqdm):
        """Remember what is to be sampled, and write what it is sampled with."""
        assert not lora_request.load_inplace, "adapters change in a sync alone"
        own = {name: value.clone() for name, value in self.policy.model.state_dict().items() if ".lora_" in name}
        if self.written is None or any(not torch.equal(own[name], self.written[name]) for name in own):
            save_file(own, FOLDER / f"{collectives.rank()}-{next(self.numbers)}.safetensors")
            self.written = own
        names = [str(next(self.numbers)) for _ in prompts]
        self.waiting = list(zip(names, prompts, settings, strict=True))
        return names

    def step(self):
        """Sample everything."""
        requests = [Request(tuple(prompt["prompt_token_ids"]), [one.seed]) for _, prompt, one in self.waiting]
        first = self.waiting[0][2]
        sampling = Sampling(first.max_tokens, temperature=first.temperature)
        done = [item for part in HfEngine(self.policy, 64).generate(requests, sampling) for item in part]
        return [self._output(self.waiting[index][0], completions[0]) for index, completions in done]

    def _output(self, name, completion):
        rows = [
            {token: SimpleNamespace(logprob=value)}
            for token, value in zip(completion.tokens, completion.logprobs, strict=True)
        ]
        found = SimpleNamespace(token_ids=completion.tokens, logprobs=rows, finish_reason=completion.finish_reason)
        return SimpleNamespace(request_id=name, finished=True, outputs=[found])


class Platform:
    """What the engine asks about the machine."""

    def is_cpu(self):
        """Say that it is a CPU."""
        return True


def install():
    """Make the stand-in importable as vllm."""

    def module(name, **content):
        found = sys.modules[name] = ModuleType(name)
        vars(found).update(content)

    known = SimpleNamespace(load_model_cls=lambda: None)
    parallel = SimpleNamespace(_WORLD=None, destroy_distributed_environment=None)
    module(
        "vllm",
        LLM=StandIn,
        ModelRegistry=SimpleNamespace(models={"Qwen2ForCausalLM": known}),
        SamplingParams=SimpleNamespace,
    )
    module("vllm.platforms", current_platform=Platform())
    module("vllm.model_executor")
    module("vllm.model_executor.models")
    module("vllm.model_executor.models.interfaces", supports_lora=lambda _: True)
    module("vllm.sampling_params", RequestOutputKind=SimpleNamespace(FINAL_ONLY=None))
    module("vllm.config")
    module("vllm.config.lora", MaxLoRARanks=Literal[8, 16])
    module("vllm.lora")
    module(
        "vllm.lora.request",
        LoRARequest=lambda name, number, path, load_inplace: SimpleNamespace(path=path, load_inplace=load_inplace),
    )
    module("vllm.distributed", parallel_state=parallel)
    module("vllm.distributed.parallel_state", cleanup_dist_env_and_memory=lambda: None)


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


class Plugin:
    """Offers the engine without a check of the installed vLLM."""

    @hookimpl
    def register_rollout_engines(self):
        """Offer it."""
        return [RolloutEngineType("stand_in", VllmEngine, VllmParams)]


def main(config, folder):
    """Train."""
    global FOLDER  # noqa: PLW0603 - the engine makes the stand-in
    FOLDER = Path(folder)
    install()
    registry = Registry()
    registry.register(digits)
    registry.register(Plugin())
    file = read_train_config(config, registry)
    launch(file, STAGES[stage_of(file.document)].runner())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RewardkitError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
