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


def scored_rows(reward: Path, files: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Score files as ``rewardkit score`` does, and yield the scored rows. Raises as ``score_to_file`` does."""
    import orjson

    with (
        tempfile.TemporaryDirectory(prefix="rewardkit-") as folder,
        score_to_file(reward, files, Path(folder) / "scored.jsonl").open("rb") as scored,
    ):
        yield from map(orjson.loads, scored)


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
