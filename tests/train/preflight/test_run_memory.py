"""The memory of a run, from its configuration."""

import io
import json

import pytest
from rich.console import Console

from rewardkit.cli.support.memory_table import add_memory, print_memory
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.preflight.data_checks import Findings
from rewardkit.train.preflight.memory_estimate import RowLengths
from rewardkit.train.preflight.run_memory import MachineMemory, estimate_run, memory_warning

LENGTHS = RowLengths([40] * 10, 30)
REWARD = "reward: {components: {a: {use: zero}}}\nrollout: {max_new_tokens: 30}\n"
REST = {"grpo": REWARD, "ppo": REWARD}


@pytest.fixture
def read(work, tmp_path, zero_reward):
    """Return a function that reads a configuration of a stage with overrides."""
    rows = [{"prompt": "1", "completion": "2", "chosen": "2", "rejected": "3"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read_stage(stage, **overrides):
        common = f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: {work}/base}}\ndata: {{train: rows.jsonl}}\nsteps: 1\n"
        (tmp_path / "config.yaml").write_text(common + REST.get(stage, ""))
        return read_train_config(tmp_path / "config.yaml", zero_reward, overrides)

    return read_stage


@pytest.fixture
def zero_reward():
    """Return a registry with a reward."""
    from rewardkit import reward

    registry = Registry()
    registry.register(reward("zero")(lambda rollout: 0.0))
    return registry


@pytest.mark.parametrize(
    ("stage", "overrides", "part", "share"),
    [
        ("sft", {}, "moments", 2.0),
        ("grpo", {"kl.coefficient": "0.1"}, "reference", 1.0),
        ("ppo", {}, "critic", 3.0),
        ("dpo", {}, "gradients", 1.0),
        ("reward_model", {"trained": "head"}, "gradients", 0.0),
    ],
)
def test_each_part_of_a_stage_is_counted(read, stage, overrides, part, share):
    """Moments are two copies of the trained weights, a reference one, and a critic with its moments three."""
    memory = estimate_run(read(stage, **overrides), LENGTHS)
    found = {**memory.static, **memory.phases["update"]}
    assert found[part] / found["weights"] == pytest.approx(share, abs=0.01)


def test_sharding_divides_what_is_trained(read):
    """Each of four processes holds a quarter of the moments."""
    whole, part = (
        estimate_run(read("sft", fsdp=value), LENGTHS, processes=4).static["moments"] for value in ("false", "true")
    )
    assert part == pytest.approx(whole / 4, rel=0.01)


def test_a_run_that_does_not_fit_is_told_with_what_to_change(read):
    """Main memory is shared by the processes, that of a GPU is not."""
    file = read("sft")
    memory = estimate_run(file, LENGTHS)
    small = MachineMemory("this machine", memory.peak + 1, is_shared=True)
    assert memory_warning(memory, small, file, 1) is None
    assert "lower micro_batch_tokens, or set model.gradient" in str(memory_warning(memory, small, file, 2))
    assert memory_warning(memory, MachineMemory("a GPU", memory.peak + 1, is_shared=False), file, 2) is None


def test_the_estimate_is_a_table_with_its_sum(read):
    """The parts, the sum, and whether it fits."""
    file, found = read("sft"), Findings(lengths=LENGTHS)
    estimate = add_memory(file, found, 1)
    assert estimate is not None
    out = io.StringIO()
    print_memory(Console(file=out, width=80), *estimate, 1)
    assert all(name in out.getvalue() for name in ("weights", "moments", "activations", "sum", "fits into"))
