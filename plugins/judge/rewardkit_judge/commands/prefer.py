"""``rewardkit judge prefer``: compares completions by principles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rewardkit.errors import UsageError
from rewardkit_judge.commands.shared import job_options, options_of, run_job
from rewardkit_judge.constitution import Preferrer, identity_of, read_principles


@click.command("prefer")
@click.argument("files", metavar="ROLLOUTS…", nargs=-1, required=True)
@click.option(
    "--principles",
    "principles_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The principles: a list in YAML or JSON, or one per line.",
)
@click.option(
    "--opponents",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="With how many others of its prompt each completion is compared.",
)
@click.option(
    "--votes", default=1, show_default=True, type=click.IntRange(1), help="Times that each question is asked."
)
@click.option("--prompt", "prompt_file", type=click.Path(exists=True), help="A file that replaces the judge's prompt.")
@job_options
def command(
    files: tuple[str, ...],
    principles_file: Path,
    opponents: int,
    votes: int,
    prompt_file: str | None,
    **given: Any,
) -> None:
    """Compare the completions in ROLLOUTS that have the same prompt, by principles, each pair in both orders.

    OUT has a row for each pair whose winner does not depend on the order: prompt, chosen and rejected, as `stage: reward_model` and
    `stage: dpo` read them, with win_share and reasons. Ties and contradicting orders are counted as undecided.

    If a run is interrupted, the same command resumes it. Prompts that fail are listed in OUT.rejected.jsonl, and are not in OUT.
    """
    principles = read_principles(principles_file)
    options = options_of(given, votes=votes, prompt=prompt_file)
    try:
        preferrer = Preferrer(options, principles, opponents)
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = {"command": "judge prefer", "opponents": opponents}
    identity = identity_of(options, principles, [preferrer.pairwise.prompt], settings)
    run_job(files, given, preferrer, preferrer.pairwise.judge, identity, "pairs")
