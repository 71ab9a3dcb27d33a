"""A run that is killed and resumed ends with the same weights as an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from warm_processes import WarmProcess


@pytest.fixture(scope="module", autouse=True)
def held_out(work):
    """Write a few rows to evaluate SFT on."""
    (work / "held_sft.jsonl").write_text("".join((work / "sft.jsonl").read_text().splitlines(keepends=True)[-20:]))


DRIVER = Path(__file__).parents[1] / "driver.py"

GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base, dtype: float32}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 8
rollout: {{prompts_per_step: 4, group_size: 4, max_new_tokens: 12}}
algorithm: {{use: grpo}}
kl: {{coefficient: 0.02, target: 0.5, horizon: 50}}
filter: {{zero_std: refill}}
epochs_per_batch: 2
updates_per_epoch: 2
optimizer: {{lr: 1.0e-3, warmup_steps: 2, schedule: cosine}}
checkpoint: {{every: 1}}
evaluate: {{every: 4, limit: 8}}
threads: 1
"""
SFT = """
version: 1
stage: sft
output: {output}
model: {{path: {work}/base, lora: {{rank: 2, dropout: 0.3}}}}
data: {{train: {work}/sft.jsonl, eval: {work}/held_sft.jsonl}}
steps: 14
batch_size: 8
checkpoint: {{every: 2}}
evaluate: {{every: 7}}
threads: 1
"""
REWARD_MODEL = """
version: 1
stage: reward_model
output: {output}
model: {{path: {work}/base, lora: {{rank: 2, dropout: 0.3}}}}
dropout: true
data: {{train: {work}/pairs.jsonl, eval_share: 0.02}}
steps: 14
batch_size: 8
checkpoint: {{every: 2}}
evaluate: {{every: 3}}
threads: 1
"""
DPO = """
version: 1
stage: dpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/pairs.jsonl, eval_share: 0.02}}
optimizer: {{lr: 1.0e-3, warmup_steps: 4, schedule: linear}}
steps: 14
batch_size: 8
checkpoint: {{every: 2}}
evaluate: {{every: 3}}
threads: 1
"""


def start(config):
    """Start the run in its own process."""
    return WarmProcess([str(DRIVER), str(config)], os.environ)


def finish(config):
    """Run to the end."""
    with start(config) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def lines(folder):
    """Return the logged metrics so far."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_after(config, folder, more):
    """Kill the run once it has logged so many more lines."""
    wanted = lines(folder) + more
    deadline = time.monotonic() + 120
    with start(config) as process:
        while lines(folder) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)


def weights(folder):
    """Return a hash of the final and the best weights."""
    files = sorted(folder.glob("*/*.safetensors"))
    assert {file.parent.name for file in files} == {"best", "final"}
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("text", [GRPO, SFT, REWARD_MODEL, DPO], ids=["grpo", "sft", "reward_model", "dpo"])
def test_killed_and_resumed_is_bit_equal(work, tmp_path, text):
    """Weights are bit-equal and each step is logged once, with dropout, adaptive KL, refilled groups and a reference."""
    total = 8 if text is GRPO else 14
    results = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        config = tmp_path / f"{name}.yaml"
        config.write_text(text.format(output=folder, work=work))
        if name == "killed":
            kill_after(config, folder, 5)
        finish(config)
        results.append(weights(folder))
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, total + 1))
        evaluated = [record["step"] for record in records if record["kind"] == "eval"]
        assert evaluated == sorted(set(evaluated))
        assert evaluated[0] == 0
        assert evaluated[-1] == total
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_run(work, tmp_path, number):
    """Ctrl-C and SIGTERM end the run after its step with a checkpoint, exit code 130 and how to resume."""
    folder = tmp_path / "run"
    config = tmp_path / "run.yaml"
    config.write_text(SFT.format(output=folder, work=work).replace("every: 2", "every: 0").replace("14", "4000"))
    deadline = time.monotonic() + 120
    with start(config) as process:
        while lines(folder) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again to resume" in errors
    kept = list((folder / "checkpoints").iterdir())
    assert len(kept) == 1
    assert (
        json.loads((kept[0] / "state.json").read_text())["step"] == lines(folder) - 1
    )  # one is of the evaluation before


def asked_to_end(monkeypatch, number, times):
    """Raise signals at the start of each step."""
    from rewardkit.train.trainer.run import Run

    original = Run.steps

    def steps(self, first):
        for step in original(self, first):
            for _ in range(times):
                signal.raise_signal(number)
            yield step

    monkeypatch.setattr(Run, "steps", steps)


def launched(config):
    """Run in this process."""
    from rewardkit.registry import Registry
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.trainer.launch import launch

    file = read_train_config(config, Registry())
    return launch(file, STAGES["sft"].runner())


def test_a_second_ctrl_c_ends_at_once(work, tmp_path, capsys, monkeypatch):
    """A second Ctrl-C ends the run at once and says where it resumes; afterwards the signal handler is restored."""
    config = tmp_path / "run.yaml"
    config.write_text(SFT.format(output=tmp_path / "run", work=work))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asked_to_end(monkeypatch, signal.SIGINT, 2)
    with pytest.raises(KeyboardInterrupt):
        launched(config)
    assert "interrupted; run the same command again to resume from the beginning" in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_sigterm_still_saves_a_checkpoint(work, tmp_path, monkeypatch):
    """A repeated SIGTERM still saves the checkpoint."""
    from rewardkit.train.trainer.run import Interrupted

    config = tmp_path / "run.yaml"
    config.write_text(SFT.format(output=tmp_path / "run", work=work))
    asked_to_end(monkeypatch, signal.SIGTERM, 2)
    with pytest.raises(Interrupted, match="interrupted after step 1 of 14; a checkpoint is saved"):
        launched(config)


def test_an_interrupt_during_the_first_evaluation(work, tmp_path, monkeypatch):
    """A run that is interrupted during its first evaluation does no step."""
    from rewardkit.train.stages.sft import SftTask
    from rewardkit.train.trainer.run import Interrupted

    config = tmp_path / "run.yaml"
    config.write_text(SFT.format(output=tmp_path / "run", work=work))
    with monkeypatch.context() as patch:
        patch.setattr(SftTask, "evaluate", lambda _self: signal.raise_signal(signal.SIGINT) or {"loss": 1.0})
        with pytest.raises(Interrupted, match="interrupted before the first step"):
            launched(config)
    assert lines(tmp_path / "run") == 1
