"""The benchmark for GPUs says where there is none, and describes runs that training accepts."""

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")

from rewardkit import Registry  # noqa: E402
from rewardkit.train.config.reading import read_train_config  # noqa: E402

FILE = Path(__file__).parents[2] / "benchmarks/gpu.py"


@pytest.fixture(scope="module")
def gpu():
    """Return the benchmark as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_gpu"] = module
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so_and_succeeds(gpu, monkeypatch, capsys):
    """It names the command for a machine with one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 0
    assert "no CUDA device" in capsys.readouterr().out


def test_a_part_that_fails_does_not_stop_the_others(gpu, monkeypatch, capsys, tmp_path):
    """The failure is counted and printed, and the next part runs."""

    def fail(folder, shape):
        raise RuntimeError("out of memory")
        yield

    monkeypatch.setattr(gpu, "MEASURES", {"sync": fail, "engines": lambda folder, shape: iter([("hf", "1")])})
    assert gpu.report(["sync", "engines"], gpu.TINY, tmp_path) == 1
    out = capsys.readouterr().out
    assert "FAILED: out of memory" in out
    assert "engines  hf" in out


@pytest.mark.parametrize("name", ["0.5B", "1.5B"])
def test_its_configurations_are_valid(gpu, name, tmp_path):
    """Training accepts the step that each shape is measured with, with adapters and sharded."""
    registry = Registry.load()
    if "length.overlong" not in registry.rewards:
        pytest.skip("the plugin length is not installed")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1"}\n')
    shape = gpu.SHAPES[name]
    file = gpu.config_of(tmp_path, shape, "step", fsdp=True, rollout=gpu.rollout_of(shape, "hf"))
    assert read_train_config(file, registry).config.rollout.max_new_tokens == shape.tokens
