"""A GRPO run with vLLM trains the shipped example, resumes after SIGKILL, and leaves no process behind."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from rewardkit.registry import Registry

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[4] / "examples/train/grpo_math_vllm.yaml"


@pytest.fixture
def config(work, tmp_path):
    """Return the example with a model of random weights."""
    if not {"math", "format.boxed", "length.cosine"} <= Registry.load().rewards.keys():
        pytest.skip("the plugins math, format and length are not installed")
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", EXAMPLE.with_name("build.py"))
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_model(tmp_path / "work/sft/final", hidden=128, layers=2)
    for name in ("train", "heldout"):
        (tmp_path / f"work/{name}.jsonl").symlink_to(work / f"{name}.jsonl")
    file = tmp_path / "run.yaml"
    file.write_text(EXAMPLE.read_text())
    return file


def start(config, **overrides):
    """Start the command in its own session, so that leftover processes can be found."""
    settings = [part for name, value in overrides.items() for part in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "rewardkit", "train", str(config), *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def lines(config):
    """Return the metrics so far."""
    file = config.parent / "work/grpo_math_vllm/metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []


def wait_for(config, process, step):
    """Wait until a step is logged."""
    deadline = time.monotonic() + 300
    while not any(line["step"] >= step for line in lines(config)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def left_behind(process):
    """Return the processes of the run's session that are still running."""
    found = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


SMALL = {
    "steps": "6",
    "data.eval": "null",
    "evaluate": "{every: 0}",
    "rollout.prompts_per_step": "8",
    "rollout.max_new_tokens": "24",
    "optimizer.lr": "1.0e-3",
    "checkpoint": "{every: 1}",
    # Random weights get nothing right; how long they go on is something to learn.
    "reward": "{components: {short: {use: length.cosine, with: {max_tokens: 24}}}}",
}


def test_the_example_runs_and_goes_on_after_sigkill(config):
    """Each step occurs once, engine and trainer agree after each update, and no process is left."""
    with start(config, **SMALL) as process:
        wait_for(config, process, 3)
        process.send_signal(signal.SIGKILL)
    assert not left_behind(process)
    killed_at = lines(config)[-1]["step"]
    assert killed_at < 6
    with start(config, **SMALL) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert not left_behind(process)
    metrics = [line for line in lines(config) if line["kind"] == "train"]
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    for line in metrics:
        assert line["weight_sync_difference"] < 1e-4
        assert line["sampling_logp_difference"] < 1e-4
        assert line["sampling_kl"] < 1e-6
        assert line["sampling_ess"] > 0.999
        assert line["seconds_sync"] > 0
    assert (config.parent / "work/grpo_math_vllm/final/model.safetensors").is_file()


def test_ctrl_c_shuts_vllm_down(config):
    """A checkpoint is saved, the message says how to resume, the exit code is 130, and no process is left."""
    with start(config, **SMALL | {"steps": "4000"}) as process:
        wait_for(config, process, 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "run the same command again to resume" in errors
    assert not left_behind(process)
