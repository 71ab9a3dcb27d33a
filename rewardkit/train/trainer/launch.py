"""Starts a training stage: checks the output folder, silences the libraries, and runs the stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from rewardkit.errors import UsageError
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import propagate_failures
from rewardkit.train.run_folder import TOKENS, holds_run, remove_run
from rewardkit.train.trainer.resume_check import refuse_other_run
from rewardkit.train.trainer.run_lock import exclusive


def launch(file: TrainFile, runner: Callable[[TrainFile], Path], *, fresh: bool = False) -> Path:
    """Run a stage. If the output folder contains an earlier run, it is resumed.

    Args:
        file: The configuration.
        runner: The stage's function.
        fresh: Whether to remove an earlier run from the output folder first.

    Returns:
        The folder of the trained model.

    Raises:
        UsageError: The folder contains a run that can't be resumed with this configuration, or another process trains into it.
        PeerError: Another process of the run failed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet()
    with (
        connected_processes(file.config.collective_timeout),
        exclusive(file.config.output) if collectives.is_main_process() else nullcontext(),
    ):
        _prepare(file, fresh=fresh)
        return runner(file)


@contextmanager
def connected_processes(timeout_s: float) -> Iterator[None]:
    """Connect the processes that ``torchrun`` or ``accelerate launch`` has started; if one fails inside, all end.

    Args:
        timeout_s: Seconds that a process waits for the others in one exchange.

    Raises:
        PeerError: Another process failed.
        PeerTimeoutError: Another process did not come within the time-out.
    """
    PartialState(timeout=timedelta(seconds=timeout_s))
    with propagate_failures(timeout_s):
        yield


def _prepare(file: TrainFile, *, fresh: bool) -> None:
    """Prepare the output folder."""
    output = file.config.output
    if not collectives.is_main_process():
        collectives.barrier()
    elif fresh and holds_run(output):
        remove_run(output)
    elif fresh and output.exists() and any(path.name != TOKENS for path in output.iterdir()):
        raise UsageError(f"{output} is not empty and does not contain a run; --fresh only removes runs")
    if collectives.is_main_process():
        collectives.barrier()
    refuse_other_run(file)
    collectives.barrier()


def quiet() -> None:
    """Silence the progress bars and warnings of transformers, which would break the console."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call,unused-ignore]
