"""A model that is divided among two processes (gloo)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base, dtype: float32}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 4
rollout: {{prompts_per_step: 3, group_size: 4, max_new_tokens: 12}}
kl: {{coefficient: 0.02, target: 0.5, horizon: 50}}
filter: {{zero_std: refill}}
epochs_per_batch: 2
optimizer: {{lr: 1.0e-3, warmup_steps: 2, schedule: cosine}}
checkpoint: {{every: 1}}
evaluate: {{every: 2, limit: 8}}
threads: 1
fsdp: true
"""
SFT = """
version: 1
stage: sft
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/sft.jsonl}}
steps: 6
batch_size: 7
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
checkpoint: {{every: 2, keep: 9}}
threads: 1
"""


@pytest.fixture(scope="module")
def facts(work, tmp_path_factory):
    """What each process found (``sharded.py``)."""
    folder = tmp_path_factory.mktemp("facts")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(HERE / "sharded.py"), str(work / "base"), str(folder)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"facts-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("what", ["weights", "gradients", "moments"])
def test_each_process_holds_half(facts, what):
    """Bytes of weights, of gradients and of moments."""
    for of in facts:
        assert of["kept_divided"][what] == pytest.approx(of["kept"][what] / 2, rel=0.02)


def test_an_engine_is_given_whole_weights(facts):
    """Adapters merged, under the same names, to the last bit."""
    assert [of["engine_weights"] for of in facts] == [True, True]


def test_processes_sample_each_for_itself(facts):
    """One samples three batches and the other none, what comes out is the same, and so are passes made together afterwards."""
    assert [of["sampled"] for of in facts] == [True, True]


def test_a_model_that_cannot_be_sharded_is_refused(facts):
    """With the place in the configuration."""
    for of in facts:
        assert of["refused"].startswith("run.yaml:3:8: fsdp: ")
        assert "can't be sharded" in of["refused"]


def test_out_of_memory_says_what_to_do(facts):
    """Processes can't halve micro-batches each for itself."""
    for of in facts:
        assert "micro_batch_tokens" in of["out_of_memory"]


def test_a_gradient_that_is_not_finite_stops_all_processes(facts):
    """Even if it is that of one process alone. No process changes its weights."""
    assert [of["not_finite"] for of in facts] == [True, True]


def test_sharded_training_in_bfloat16_gives_the_weights_of_unsharded_training(facts):
    """All weights, or adapters on a frozen model in bfloat16. The trained weights are float32."""
    assert [of["in_bfloat16"] for of in facts] == [[True, True]] * 2


@pytest.mark.parametrize("sharded", ["", "_sharded"])
@pytest.mark.parametrize("name", ["dpo_references", "critic", "sft_evaluation", "reward_model"])
def test_two_processes_pass_half_of_the_tokens_each(facts, name, sharded):
    """With the results of one process, which passes all of them. FSDP may add a pass of one token to keep the processes in step."""
    for of in facts:
        own, alone, difference = of[f"shared_passes{sharded}"][name]
        assert own == pytest.approx(alone / 2, rel=0.15)
        assert difference < 1e-5
    assert sum(of[f"shared_passes{sharded}"][name][0] for of in facts) <= 1.05 * facts[0]["shared_passes"][name][1]


def test_gradients_are_summed_in_buckets(facts):
    """A few collectives give, to the last bit, what one for each parameter gives."""
    for of in facts:
        calls, parameters, equal = of["summed_gradients"]
        assert equal
        assert calls < parameters / 2


def lines(folder):
    """Lines of metrics so far."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def finish(start_world, config, processes):
    """Run to the end."""
    for process in start_world([str(HERE.parent / "driver.py"), str(config)], processes):
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors


def written(folder, text, **values):
    """A configuration's file."""
    config = folder.with_suffix(".yaml")
    config.write_text(text.format(output=folder, **values))
    return config


def test_killed_and_resumed_is_bit_equal(work, tmp_path, start_world):
    """Both processes are killed at once, and started again: final and best weights are those of a run that was not."""
    found = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        config = written(folder, GRPO, work=work)
        if name == "killed":
            processes = start_world([str(HERE.parent / "driver.py"), str(config)], 2)
            deadline = time.monotonic() + 240
            while lines(folder) < 3 and processes[0].poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            assert processes[0].poll() is None, processes[0].stderr.read()
            for process in processes:
                process.send_signal(signal.SIGKILL)
            assert not (folder / "final").exists()
        finish(start_world, config, 2)
        steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [step["step"] for step in steps if step["kind"] == "train"] == [1, 2, 3, 4]
        found.append([(folder / part / "model.safetensors").read_bytes() for part in ("final", "best")])
    assert found[0] == found[1]


def test_a_run_goes_on_divided_or_whole(work, tmp_path, start_world):
    """Begun by one process, gone on with by two that divide the model, ended by one: the weights of one process alone."""

    def back_to(step):
        shutil.rmtree(folder / "final")
        for path in (folder / "checkpoints").iterdir():
            if int(path.name.removeprefix("step-")) > step:
                shutil.rmtree(path)

    folder = tmp_path / "run"
    config = written(folder, SFT, work=work)
    finish(start_world, config, 1)
    alone = load_file(folder / "final/model.safetensors")
    back_to(2)
    finish(start_world, written(folder, SFT + "fsdp: true\n", work=work), 2)
    both = load_file(folder / "final/model.safetensors")
    back_to(4)
    finish(start_world, written(folder, SFT, work=work), 1)
    last = load_file(folder / "final/model.safetensors")
    for found in (both, last):
        assert found.keys() == alone.keys()
        assert all(torch.allclose(found[name], alone[name], atol=1e-5) for name in alone)
