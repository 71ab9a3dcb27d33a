"""Several training processes, each with its own vLLM, do what one does, and end together."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import psutil
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from rewardkit.errors import ConfigError
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.distributed.sharded_files import read_tensors, stored_tensors

pytestmark = pytest.mark.slow
FAULTY = Path(__file__).parents[2] / "faulty.py"
GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {base}}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 4
rollout: {{engine: {engine}, prompts_per_step: 5, group_size: 4, max_new_tokens: 10}}
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
evaluate: {{every: 2, limit: 5}}
checkpoint: {{every: 2, keep: 2}}
log: {{samples: 20}}
threads: 1
fsdp: {fsdp}
"""


@pytest.fixture
def config(work, tmp_path):
    """Write a run's configuration, with a model that vLLM has kernels for."""
    module("build", FAULTY.parents[2] / "examples/train/build.py").write_model(tmp_path / "base", hidden=128, layers=2)

    def write(name, engine="vllm", fsdp="false"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(
            GRPO.format(output=tmp_path / name, base=tmp_path / "base", work=work, engine=engine, fsdp=fsdp)
        )
        return file

    return write


def module(name, path):
    """Import a file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def ended(processes):
    """Return exit codes and error output."""
    said = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], said


def lines(folder, name):
    """Return the metrics of a run."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def left_behind(processes):
    """Return the processes of these sessions that are still running after some seconds."""
    found = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) in {process.pid for process in processes}:
                found.append(other)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return psutil.wait_procs(found, timeout=20)[1]


def test_two_processes_do_what_one_does_and_a_stale_one_stops_both(start_world, config, tmp_path):
    """Every prompt is sampled once, with the same tokens, and weights agree to 1e-5, be the model divided between the two or not.

    The run that does not divide it ends in both processes, since the vLLM of one of them keeps its old weights; it is kept.
    """
    from safetensors.torch import load_file

    def policy_of(checkpoint):
        stored = {
            name: entry for name, entry in stored_tensors(checkpoint).items() if name.startswith("policy/weight/")
        }
        weights = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in stored.items()}
        read_tensors(checkpoint, weights)
        return weights

    def final_of(run):
        return load_file(run / "final/model.safetensors")

    one, two, stale = config("one"), config("two", fsdp="true"), config("stale")
    assert ended(start_world([str(FAULTY), str(one), "none", "-"], 1))[0] == [0]
    codes, said = ended(start_world([str(FAULTY), str(two), str(stale), "vllm keeps its weights", "1"], 2))
    assert codes == [1, 1], said
    samples = [lines(tmp_path / name, "samples.jsonl") for name in ("one", "two", "stale")]
    assert len(samples[0]) == 4 * 5 * 4
    assert samples[0] == samples[1]
    assert samples[0][: 2 * 5 * 4] == samples[2]
    for other, read, file in (("two", final_of, ""), ("stale", policy_of, "checkpoints/step-000002")):
        first, second = (read(tmp_path / name / file) for name in ("one", other))
        assert first.keys() == second.keys()
        assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    metrics = [line for line in lines(tmp_path / "two", "metrics.jsonl") if line["kind"] == "train"]
    assert all(
        line["weight_sync_difference_max"] < 1e-4 and line["sampling_logp_difference_max"] < 1e-4 for line in metrics
    )
    errors = [line for line in said[0].splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "process 1: the completions of the rollout engine are bit for bit those from before the update" in errors[0]
    assert "a checkpoint after step 2 is saved in" in errors[0]
    assert "error" not in said[1]
    assert (tmp_path / "stale/checkpoints/step-000002").is_dir()


@pytest.mark.parametrize("fault", ["vllm does not start", "vllm killed"])
def test_what_becomes_of_one_ends_the_other(start_world, config, fault):
    """The other process ends while it waits in vLLM's start or samples, and nothing is left behind."""
    processes = start_world([str(FAULTY), str(config("run")), fault, "1"], 2)
    codes, said = ended(processes)
    assert codes[0] == 1
    assert said[0].count("error: ") == 1
    match fault:
        case "vllm killed":
            assert codes[1] == -signal.SIGKILL
            assert "error: process 1: the process ended without a message" in said[0]
        case _:
            assert codes[1] == 1
            assert "error: process 1: vLLM can't be started: RuntimeError: a bug" in said[0]
            assert said[1] == ""
    assert not left_behind(processes)


def test_vllms_divided_over_gpus_are_refused(config, monkeypatch):
    """The configuration is refused with its place before anything is loaded."""
    registry = module("driver", FAULTY.with_name("driver.py")).registry()
    file = config("run", "{use: vllm, with: {tensor_parallel_size: 2}}")
    assert read_train_config(file, registry)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"run\.yaml:9:\d+: rollout\.engine vllm: .* set tensor_parallel_size to 1"):
        read_train_config(file, registry)
