"""Scores files in a subprocess, for commands that use the scored file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from rewardkit.errors import RewardkitError


class ScoringFailedError(RewardkitError):
    """Scoring a file in a subprocess failed; ends the command with the same exit code.

    Args:
        reward: The reward file.
        exit_code: The exit code of the subprocess; below 0 if a signal killed it.
    """

    def __init__(self, reward: Path, exit_code: int) -> None:
        self.exit_code = exit_code if exit_code > 0 else 1
        killed = f"was killed by signal {-exit_code}" if exit_code < 0 else "failed"
        super().__init__(f"scoring with {reward} {killed}")


def scored_rows(reward: Path, files: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Score files as ``rewardkit score`` does, and yield the scored rows. Raises as ``score_to_file`` does."""
    from rewardkit.scoring.formats.decode import read_row

    with (
        tempfile.TemporaryDirectory(prefix="rewardkit-") as folder,
        score_to_file(reward, files, Path(folder) / "scored.jsonl").open("rb") as scored,
    ):
        for line in scored:
            yield read_row(line)[0]


def score_to_file(reward: Path, files: Sequence[str], out: Path) -> Path:
    """Score files as ``rewardkit score`` does.

    Args:
        reward: The reward file.
        files: Rollouts, as ``rewardkit score`` takes them.
        out: The scored file to write.

    Returns:
        ``out``.

    Raises:
        RewardkitError: Scoring failed; its own message is on stderr.
    """
    click.echo(f"scoring with {reward}", err=True)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rwk", "score", *files, "--reward", str(reward), "--out", str(out), "--temporary"],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if not out.exists():
        raise ScoringFailedError(reward, done.returncode)
    return out
