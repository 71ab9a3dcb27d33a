"""Scores files in a subprocess, for commands that use the scored file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from rewardkit.errors import RewardkitError


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
        [sys.executable, "-m", "rwk", "score", *files, "--reward", str(reward), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if not out.exists():
        raise RewardkitError(f"scoring with {reward} ended with exit code {done.returncode}")
    return out
