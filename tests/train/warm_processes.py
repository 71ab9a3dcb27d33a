"""Starts Python processes that have torch, transformers and the trainer imported: importing them costs more than most tests.

A server imports them once for each worker of pytest, and forks for each process that is asked for.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Self

# rewardkit.train comes first: it sets the log level of torch.
PRELOADED = [
    "rewardkit.train",
    "torch",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
    "accelerate",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.generation.utils",
    "peft",
    "rewardkit.cli",
    "rewardkit.train.trainer.launch",
    "rewardkit.train.stages.sft",
    "rewardkit.train.stages.dpo",
    "rewardkit.train.stages.reward_model",
    "rewardkit.train.stages.grpo",
    "rewardkit.train.stages.ppo",
    "rewardkit.train.rollout.engines.hf",
]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # Read when the libraries are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return context


class WarmProcess:
    """A Python process with the interface of ``subprocess.Popen`` that the tests use.

    Args:
        arguments: What would follow the interpreter: a file, or `-c` and a program, and arguments.
        environment: The whole environment.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "stderr"
        path.touch()
        self._process = _context().Process(
            target=_run, args=(list(arguments), dict(environment), str(path), str(Path.cwd()))
        )
        self._process.start()
        self.stderr = path.open(encoding="utf-8")

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[None, str]:
        """Wait for the end; return None and what was written to stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0, stderr=self.stderr.read())
        return None, self.stderr.read()

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.poll() is None and self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()
        self.stderr.close()
        self._folder.cleanup()


def _run(arguments: list[str], environment: dict[str, str], errors: str, folder: str) -> None:
    """Become the process that is asked for."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    program, *rest = arguments
    try:
        if program == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)  # noqa: S102 - the test's own program
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
