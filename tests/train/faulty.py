"""Runs ``driver.py`` with a fault in one of the processes: ``faulty.py [INTACT CONFIG] CONFIG FAULT RANK``."""

import os
import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from rewardkit.train.config import reading

spec = spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
driver = module_from_spec(spec)
sys.modules["driver"] = driver
spec.loader.exec_module(driver)


def after(calls, target, name, fault):
    """Replace a function by a fault after it has been called so often."""
    original, count = getattr(target, name), 0

    def wrapped(*args, **settings):
        nonlocal count
        count += 1
        if count > calls:
            fault()
        return original(*args, **settings)

    setattr(target, name, wrapped)


def stumble():
    """Raise an unexpected exception."""
    raise RuntimeError("a bug")


def engine_breaks():
    """Raise the error of a rollout engine."""
    from rewardkit.errors import EngineError

    raise EngineError("the engine is broken")


def disk_is_full():
    """Raise the error of a full disk."""
    raise OSError(28, "No space left on device")


def die():
    """Kill the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def break_down(name):
    """Make this process fail."""
    from rewardkit.train.rollout.engines import hf
    from rewardkit.train.trainer import checkpoint
    from rewardkit.train.trainer.optimizer import Optimizer

    match name:
        case "engine":
            after(2, hf.HfEngine, "generate", engine_breaks)  # check, step 1, step 2
        case "backward":
            after(1, Optimizer, "accumulate", stumble)
        case "vllm does not start":
            from rewardkit.train.rollout.engines.vllm import VllmEngine

            after(0, VllmEngine, "_arguments", stumble)
        case "vllm keeps its weights":
            from rewardkit.train.rollout.engines.vllm import VllmEngine

            whole = VllmEngine._hand_over
            VllmEngine._hand_over = lambda self, weights: whole(self, weights) if next(left, None) else list(weights)
            left = iter((1, 1))
        case "vllm killed":
            from rewardkit.train.rollout.engines.vllm import VllmEngine

            after(4, VllmEngine, "_sample", die)  # check, step 1, check, step 2
        case "disk":
            after(0, checkpoint, "write_checksums", disk_is_full)
        case "killed":
            after(2, hf.HfEngine, "generate", die)
        case "killed in an update":
            after(1, Optimizer, "accumulate", die)


if __name__ == "__main__":
    from rewardkit.cli import run

    read = reading.read_train_config
    reading.read_train_config = lambda path, overrides: read(path, driver.registry(), overrides=overrides)
    *configs, config, fault, rank = sys.argv[1:]
    for good in configs:
        assert run(["train", good]) == 0
    if os.environ.get("RANK", "0") == rank:
        break_down(fault)
    sys.exit(run(["train", config]))
