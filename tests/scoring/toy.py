"""Rewards for these tests, and a program that scores files with them and kills itself at a chosen moment.

python toy.py JSON     {"inputs": …, "out": …, "reward": …, "kill_at": N, "kill_after_s": S, "segment_rows": N, …}
python toy.py          reads such orders from standard input, and forks a process for each, which is faster than starting one
"""

import json
import os
import signal
import sys
import zlib
from pathlib import Path
from typing import Any

from rewardkit import Registry, Rollout, Score, Unscored, reward
from rewardkit.composite import CompositeReward
from rewardkit.config.reading import parse_config
from rewardkit.scoring import output, run
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats import parquet

PLAIN = """
version: 1
components:
  hashed: {use: toy.hashed, weight: 1.0}
  size: {use: toy.size, weight: 0.01}
unscored: {policy: exclude, abort_above: 0.5}
"""
GROUPED = """
version: 1
components:
  hashed: {use: toy.hashed, weight: 1.0}
  best: {use: toy.best, weight: 0.5}
combine: normalized_sum
unscored: {policy: exclude, abort_above: 0.9}
"""
NEEDS_ANSWER = """
version: 1
components:
  right: {use: toy.right}
"""


@reward("toy.hashed")
def hashed(rollout: Rollout) -> Score | Unscored:
    """A number that depends on the text alone; one in thirty-one rows can't be scored."""
    number = zlib.crc32(rollout.completion_text.encode("utf-8", "surrogatepass"))
    if number % 31 == 0:
        return Unscored("reference", "divisible")
    return Score(
        number % 97 / 97,
        f"crc {number % 97}",
        metrics={"crc": float(number)} if number % 5 == 0 else None,
        extracted=f"crc {number % 97}" if number % 7 == 0 else None,
        output="" if number % 11 else f"é\n{number % 97}",
    )


@reward("toy.size")
def size(rollout: Rollout) -> float:
    """The length of the text."""
    return float(len(rollout.completion_text))


@reward("toy.right", needs=["answer"])
def right(rollout: Rollout) -> bool:
    """Whether the completion is the answer."""
    return rollout.completion_text == str(rollout.fields["answer"])


@reward("toy.best", scope="group")
def best(rollouts: list[Rollout]) -> list[Score]:
    """1 for the longest of a group; the reason tells the group's size."""
    longest = max(len(rollout.completion_text) for rollout in rollouts)
    return [Score(float(len(rollout.completion_text) == longest), f"of {len(rollouts)}") for rollout in rollouts]


@reward("toy.broken")
def broken(rollout: Rollout) -> float:
    """Never scores anything."""
    raise RuntimeError(f"no service for {rollout.prompt_text[:3]}")


is_away = True
"""Whether the service of the next reward is away."""


@reward("toy.away")
def away(rollout: Rollout) -> float | Unscored:
    """Needs a service."""
    return Unscored("infra", "the service is away") if is_away else 1.0


@reward("toy.slow", executor="async")
async def slow(rollout: Rollout) -> float:
    """Waits for nothing, on the event loop."""
    return float(len(rollout.completion_text))


def registry() -> Registry:
    """Only the rewards above."""
    found = Registry()
    for function in (hashed, size, right, best, broken, away, slow):
        found.register(function)
    assert not found.broken, found.broken
    return found


def make_reward(text: str) -> CompositeReward:
    """A composite of the rewards above."""
    known = registry()
    return CompositeReward(parse_config(text, known, "toy.yaml"), registry=known)


def score(
    inputs: list[Any], out: Any, text: str = PLAIN, *, columns: Columns | None = None, **options: Any
) -> run.RunResult:
    """Score files with a composite of the rewards above."""
    with make_reward(text) as composite:
        return run.score_files(
            run.ScoreOptions([str(item) for item in inputs], Path(out), columns or Columns(), **options), composite
        )


class Killer:
    """Counts the moments at which something reaches the disk or changes a name, and dies at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.moments = 0

    def moment(self) -> None:
        """One more; perhaps the last."""
        self.moments += 1
        if self.moments == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str) -> None:
        """Count before and after each call of a function."""
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.moment()
            result = original(*args, **kwargs)
            self.moment()
            return result

        setattr(owner, name, watched)


def obey(order: dict[str, Any]) -> int:
    """Score as told, and return how many moments there were."""
    killer = Killer(order.get("kill_at", 0))
    parquet.SEGMENT_ROWS = output.SEGMENT_ROWS = order.get("segment_rows", 300)
    for owner, name in ((os, "fsync"), (os, "truncate"), (Path, "replace"), (Path, "unlink")):
        killer.watch(owner, name)
    run._CHUNK_ROWS = run._CHUNK_ROWS_ELSEWHERE = order.get("chunk_rows", 100)
    score(order["inputs"], order["out"], order["reward"])
    return killer.moments


def serve() -> None:
    """Obey each order in a process of its own; tell how it ended and how many moments there were."""
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            order = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, order.get("kill_after_s", 0))  # SIGALRM ends it as SIGKILL does
            os.write(write, b"%d" % obey(order))
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            moments = int(told.read() or 0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{json.dumps([ended, moments])}\n")
        sys.stdout.flush()


def main() -> None:
    """Obey the order on the command line, or those of standard input."""
    if len(sys.argv) == 1:
        serve()
    else:
        obey(json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
