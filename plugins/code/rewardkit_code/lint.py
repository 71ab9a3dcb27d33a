"""`code.lint`: how few problems ruff reports. The program is read, never run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Gt

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit_code.program.extraction import TextExtraction, program

TIMEOUT_S = 30
MAX_CHARS = 200_000
"""Longer programs are not read: ruff's report would take some hundred times their memory."""


def _ruff() -> list[str]:
    """The command of the ruff that is installed in this Python environment."""
    found = shutil.which("ruff", path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-P", "-m", "ruff"]


@reward("code.lint", executor="process", deterministic=True, example="tidy: {use: code.lint, weight: 0.05}")
class Lint:
    """1 for a Python program in which ruff finds no problem, less the more it finds; 0 if it does not parse.

    The value is 1 / (1 + problems per `lines` lines). A program longer than 200,000 characters is not read and gets 0.

    Args:
        select: Rules of ruff, such as `E`, `F`, `B`.
        lines: The number of lines in which one problem halves the value.
        extract: `last` or `first` of the fenced blocks, or `whole`, the completion as it is.
    """

    def __init__(
        self,
        *,
        select: Sequence[str] = ("E4", "E7", "E9", "F", "B"),
        lines: Annotated[float, Gt(0)] = 10.0,
        extract: TextExtraction = "last",
    ) -> None:
        if not select or not all(rule.isalnum() for rule in select):
            raise ValueError(f"select must name rules of ruff, such as F or E7, not {list(select)}")
        self._select, self._lines, self._extract = ",".join(select), lines, extract

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return [self._score_one(rollout) for rollout in rollouts]

    def _score_one(self, rollout: Rollout) -> Score | Unscored:
        source = program(rollout.completion_text, "python", self._extract)
        if source is None:
            return Score(0.0, "there is no python program in the completion")
        if len(source) > MAX_CHARS:
            return Score(0.0, f"longer than {MAX_CHARS:,} characters: not read")
        command = [*_ruff(), "check", "--isolated", "--no-cache", "--output-format=json", "--target-version=py311"]
        command += ["--ignore-noqa", f"--select={self._select}", "--stdin-filename=solution.py", "-"]
        try:
            done = subprocess.run(
                command, input=source.encode("utf-8", "replace"), capture_output=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return Unscored("timeout", f"ruff took longer than {TIMEOUT_S} s")
        except OSError as error:
            return Unscored("infra", f"ruff could not be run: {error}")
        if done.returncode in (-signal.SIGABRT, -signal.SIGSEGV):  # ruff's stack overflowed
            return Score(0.0, "nested too deeply to be read")
        if done.returncode not in (0, 1):
            return Unscored("infra", f"ruff failed: {done.stderr.decode('utf-8', 'replace')[:300]}")
        problems = json.loads(done.stdout)
        broken = next((row for row in problems if row.get("code") in (None, "invalid-syntax", "E999")), None)
        if broken is not None:
            return Score(0.0, f"does not parse: {broken['message']}"[:300])
        count, length = len(problems), max(len(source.splitlines()), 1)
        first = f", first {problems[0]['code']}: {problems[0]['message']}" if problems else ""
        value = 1.0 / (1.0 + count * self._lines / max(length, self._lines))
        reason = f"{_count(count, 'problem')} in {_count(length, 'line')}{first}"
        return Score(value, reason[:300], {"problems": float(count)})


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
