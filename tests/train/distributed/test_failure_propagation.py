"""Several processes (gloo) fail and end together: none waits for one that does not come, and what happened is said once."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FAULTY = Path(__file__).parents[1] / "faulty.py"
PRELUDE = """
import os, signal, sys, time
import rewardkit.train  # before torch, whose own log level it sets
import torch
from datetime import timedelta
from torch import distributed
from rewardkit.cli import run
from rewardkit.errors import EngineError, OutputError, RewardkitError
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed import failure_propagation
from rewardkit.train.distributed.passes import running_pass

TIMEOUT_S = float(os.environ["TIMEOUT_S"])

def meet():
    distributed.all_reduce(torch.ones(1))

def main(inside):
    def command(**_):
        with failure_propagation.propagate_failures(TIMEOUT_S):
            inside(distributed.get_rank())
    import rewardkit.cli
    rewardkit.cli.cli.main = command
    sys.exit(run())

distributed.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT_S))
"""
GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 4
rollout: {{prompts_per_step: 3, group_size: 4, max_new_tokens: 10}}
evaluate: {{every: 0}}
checkpoint: {{every: 3}}
threads: 1
"""


def ended(processes, timeout=60):
    """Exit codes, and what each said."""
    deadline = time.monotonic() + timeout
    said = [process.communicate(timeout=max(deadline - time.monotonic(), 1))[1] for process in processes]
    return [process.returncode for process in processes], said


@pytest.fixture
def world(start_world):
    """Runs the body of ``inside(rank)`` in so many processes; exit codes and what they said."""

    def run(body, processes=2, prelude="", timeout_s=60):
        lines = "\n".join("    " + line for line in body.strip().splitlines())
        program = f"{PRELUDE}{prelude}\ndef inside(rank):\n{lines}\nmain(inside)"
        return ended(start_world(["-c", program], processes, TIMEOUT_S=timeout_s))

    return run


def test_processes_that_do_well_end_well(world):
    """The others leave after the first, which has something to do at the end: a launcher ends all when one has left."""
    codes, said = world("meet()\nif rank == 0: time.sleep(0.5); print('first', time.time(), file=sys.stderr)")
    assert codes == [0, 0]
    assert "first" in said[0]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_one_raises_ends_those_that_wait_for_it(world, failing):
    """Whichever it is; the first process says it, with the exit code that belongs to it."""
    codes, said = world(
        f"if rank == {failing}: raise OutputError('the disk is full')\nmeet()",
        processes=3,
        prelude="OutputError.exit_code = 7",
    )
    assert codes == [7, 7, 7]
    place = f"process {failing}: " if failing else ""
    assert said[0].strip() == f"error: {place}the disk is full"
    assert said[1:] == ["", ""]


def test_a_bug_is_told_with_its_traceback_where_it_is(world):
    """The first process says where to look."""
    codes, said = world("if rank == 1: 1 / 0\nmeet()")
    assert codes == [1, 1]
    assert said[0].strip() == "error: process 1: ZeroDivisionError: division by zero"
    assert "Traceback" in said[1]
    assert "in inside" in said[1]


def test_the_same_error_everywhere_is_said_once(world):
    """As it is."""
    codes, said = world("raise RewardkitError('no such file')")
    assert codes == [1, 1]
    assert said == ["error: no such file\n", ""]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_those_that_wait_for_it(world, killed):
    """Without a word of torch's."""
    codes, said = world(f"meet()\nif rank == {killed}: os.kill(os.getpid(), signal.SIGKILL)\nmeet()")
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 1
    assert said[1 - killed].startswith(f"error: process {killed}: the process ended without a message")
    assert len(said[1 - killed].splitlines()) == 1


def test_who_is_at_work_hears_of_it_and_stops(world):
    """``check`` raises, long before the work is done."""
    codes, said = world(
        "if rank == 1: raise OutputError('the disk is full')\nwhile True: time.sleep(0.01); failure_propagation.raise_if_peer_failed()"
    )
    assert codes == [1, 1]
    assert said == ["error: process 1: the disk is full\n", ""]


def test_who_does_not_come_out_is_ended(world):
    """A process that is stuck goes on for some time only."""
    codes, said = world(
        "if rank == 1: raise OutputError('the disk is full')\nwhile True: time.sleep(0.01)",
        prelude="failure_propagation.GRACE_S = 0.5",
    )
    assert codes == [1, 1]
    assert said == ["error: process 1: the disk is full\n", ""]


def test_a_process_that_does_not_come_is_named_with_its_pass(world):
    """After the time-out of the process group, not after torch's half an hour. It hears of that and ends, too."""
    codes, said = world(
        """
with running_pass("the rollouts of step 3"):
    while rank == 1: time.sleep(0.01); failure_propagation.raise_if_peer_failed()
with running_pass("the update of step 3"):
    meet()
""",
        timeout_s=1,
    )
    assert codes == [1, 1]
    assert (
        said[0]
        .strip()
        .startswith(
            "error: process 0 has waited for 1 s in the update of step 3, and process 1 is still in the rollouts of step 3. "
        )
    )
    assert said[1] == ""


def test_what_is_raised_where_all_agree_is_raised_by_all(world):
    """So that they still can do something together; an EngineError stays one, and what comes after is told, too."""
    codes, said = world(
        """
for turn in range(3):
    try:
        with failure_propagation.raise_on_all_ranks():
            while turn == 1 and rank == 0: time.sleep(0.01); failure_propagation.raise_if_peer_failed()
            if turn > 0 and rank == 1: raise (EngineError if turn == 1 else OutputError)(f"broken in turn {turn}")
    except EngineError as error:
        meet()
        print("caught:", error, file=sys.stderr)
"""
    )
    assert codes == [1, 1]
    assert said[0].splitlines() == ["caught: process 1: broken in turn 1", "error: process 1: broken in turn 2"]
    assert said[1].splitlines() == ["caught: broken in turn 1"]


def test_a_process_killed_while_others_agree(world):
    """Nobody waits for it there."""
    codes, said = world(
        """
with running_pass("the rollouts of step 1"), failure_propagation.raise_on_all_ranks():
    while rank == 1:
        if failure_propagation._channel._store.check(["pass/1"]): os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert codes == [1, -signal.SIGKILL]
    assert said[0].startswith(
        "error: process 1: the process ended without a message in the rollouts of step 1, perhaps"
    )


def test_interrupted_processes_say_so_once(world):
    """With the exit code of an interruption, also where only one of them has been interrupted."""
    codes, said = world("if rank == 1: raise KeyboardInterrupt\nmeet()")
    assert codes == [130, 130], said
    assert said == ["process 1: interrupted\n", ""]


@pytest.mark.parametrize(
    ("fault", "rank", "message", "kept"),
    [
        ("engine", 1, r"process 1: the engine is broken; a checkpoint after step 1 is saved in", ["step-000001"]),
        ("disk", 0, r"step-000003 can't be written: ", []),
    ],
)
def test_a_run_ends_with_a_word_in_all_processes(start_world, work, tmp_path, fault, rank, message, kept):
    """An engine that breaks in one process costs no step; a full disk is told as with one process."""
    config = tmp_path / "run.yaml"
    config.write_text(GRPO.format(output=tmp_path / "out", work=work))
    codes, said = ended(start_world([str(FAULTY), str(config), fault, str(rank)], 2), 180)
    assert codes == [1, 1]
    assert len([line for line in said[0].splitlines() if line.startswith("error: ")]) == 1
    assert re.search(message, said[0])
    assert said[1] == ""
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").glob("step-*")) == kept


def test_ctrl_c_is_kept_and_said_once(start_world, work, tmp_path):
    """Both processes finish the step, one says how to go on, and both exit with 130."""
    config = tmp_path / "run.yaml"
    config.write_text(GRPO.format(output=tmp_path / "out", work=work).replace("steps: 4", "steps: 40000"))
    processes = start_world([str(FAULTY), str(config), "none", "-"], 2)
    metrics = tmp_path / "out/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGINT)
    codes, said = ended(processes, 120)
    assert codes == [130, 130], said
    assert said[0].count("run the same command again to resume") == 1
    assert said[1] == ""
    assert len(list((tmp_path / "out/checkpoints").glob("step-*"))) >= 1
