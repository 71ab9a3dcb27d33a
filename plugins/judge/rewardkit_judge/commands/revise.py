"""``rewardkit judge revise``: answers, criticises and revises by principles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rewardkit.errors import UsageError
from rewardkit_judge.commands.shared import job_options, options_of, run_job
from rewardkit_judge.constitution import Prompts, Reviser, identity_of, read_principles


@click.command("revise")
@click.argument("files", metavar="PROMPTS…", nargs=-1, required=True)
@click.option(
    "--principles",
    "principles_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The principles: a list in YAML or JSON, or one per line.",
)
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1), help="Critiques and revisions per row.")
@click.option("--seed", default=0, show_default=True, help="Changes the choice of principles and the seeds of replies.")
@click.option("--critique-prompt", type=click.Path(exists=True), help="A file that replaces the prompt of the critic.")
@click.option("--revision-prompt", type=click.Path(exists=True), help="A file that replaces the prompt of a revision.")
@job_options
def command(
    files: tuple[str, ...],
    principles_file: Path,
    rounds: int,
    seed: int,
    critique_prompt: str | None,
    revision_prompt: str | None,
    **given: Any,
) -> None:
    """Answer the prompts in PROMPTS, then criticise and revise the answers by principles.

    A row needs a prompt; its completion, if it has one, is the first answer. OUT has the last revision as completion, so that
    `stage: sft` trains on it, and the columns first_answer, principles, critiques and revisions. Each round uses another principle.

    If a run is interrupted, the same command resumes it. Rows that fail are listed in OUT.rejected.jsonl, and are not in OUT.
    """
    principles = read_principles(principles_file)
    options = options_of(given)
    try:
        prompts = Prompts.load(critique_prompt, revision_prompt)
    except ValueError as error:
        raise UsageError(str(error)) from None
    reviser = Reviser(options, principles, rounds, seed, prompts)
    settings = {"command": "judge revise", "rounds": rounds, "seed": seed}
    identity = identity_of(options, principles, [prompts.critique, prompts.revision], settings)
    run_job(files, given, reviser, reviser.judge, identity, "revised answers")
