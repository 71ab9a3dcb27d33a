"""``rewardkit judge try``: shows what a judge is asked about a row, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rewardkit import Rollout, Score, Unscored
from rewardkit.errors import RewardkitError
from rewardkit_judge.commands.judges import NamedJudge, chosen_rollouts, find_judge, require_endpoint
from rewardkit_judge.commands.shared import costs_text
from rewardkit_judge.judge import Exchange, Watch, watching
from rewardkit_judge.rewards import Pairwise


@click.command("try")
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("row")
@click.option("--component", help="The judge, if CONFIG has several.")
@click.option(
    "--map", "maps", multiple=True, metavar="NEW=OLD", help="Read column OLD as NEW, as in `rewardkit score`."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(config: Path, row: str, component: str | None, maps: tuple[str, ...], as_json: bool) -> None:
    """Ask the judge of the reward file CONFIG about ROW, and show every message.

    ROW is FILE:NUMBER, such as rollouts.jsonl:3, or a row as JSON. For judge.pairwise it is any row of the group, which is judged as a
    whole. Shown are the messages as they are sent, each reply as it came, what was read from it, the votes, tokens and cost.
    Conditions of the component (when, gate) do not apply.

    Exits with 3 if there is no score.
    """
    judge = find_judge(config, component)
    rollouts = chosen_rollouts(row, maps, whole_group=isinstance(judge.reward, Pairwise))
    require_endpoint(judge)
    watch, results = asyncio.run(_ask(judge, rollouts))
    if as_json:
        click.echo(json.dumps(_data(judge, watch, results), indent=2, ensure_ascii=False, default=str))
    else:
        _show(judge, watch, results)
    if not any(isinstance(result, Score) for result in results):
        raise NoScoreError("there is no score")


class NoScoreError(RewardkitError):
    """The judge gave no score."""

    exit_code = 3


async def _ask(judge: NamedJudge, rollouts: Sequence[Rollout]) -> tuple[Watch, list[Score | Unscored]]:
    with watching() as watch:
        try:
            results = await judge.reward(rollouts)  # type: ignore[operator]  # every judge is called with rollouts
        finally:
            await judge.reward.close()
    return watch, results


def _data(judge: NamedJudge, watch: Watch, results: Sequence[Score | Unscored]) -> dict[str, Any]:
    return {
        "component": judge.name,
        "exchanges": [
            {
                "request": item.body,
                "reply": item.reply,
                "verdict": item.verdict,
                "problem": item.problem,
                "prompt_tokens": item.usage.prompt_tokens,
                "completion_tokens": item.usage.completion_tokens,
            }
            for item in watch.exchanges
        ],
        "votes": watch.votes,
        "results": [
            {"score": item.value, "reason": item.reason, "metrics": dict(item.metrics or {})}
            if isinstance(item, Score)
            else {"unscored": item.kind, "message": item.message}
            for item in results
        ],
        "costs": judge.reward.costs(),
    }


def _show(judge: NamedJudge, watch: Watch, results: Sequence[Score | Unscored]) -> None:
    last: Any = None
    for number, item in enumerate(watch.exchanges, 1):
        _show_exchange(number, len(watch.exchanges), item, last)
        last = item.body["messages"]
    click.secho("result", bold=True)
    for result in results:
        if isinstance(result, Score):
            click.echo(f"  score {result.value:.4g}: {result.reason}")
            metrics = {name: value for name, value in (result.metrics or {}).items() if not name.startswith("judge_")}
            if metrics:
                click.echo("    " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        else:
            click.secho(f"  unscored ({result.kind}): {result.message}", fg="yellow")
    for votes in watch.votes:
        click.echo(f"  votes: {', '.join(f'{value:.4g}' for value in votes)}")
    click.echo(f"  cost: {costs_text(judge.reward.costs())}")


def _show_exchange(number: int, count: int, item: Exchange, last: Any) -> None:
    told = ", ".join(
        f"{name} {item.body[name]}" for name in ("model", "temperature", "seed", "max_tokens") if name in item.body
    )
    click.secho(f"question {number} of {count} ({told})", bold=True)
    if item.body["messages"] == last:
        click.secho("  the same messages as above", dim=True)
    else:
        for message in item.body["messages"]:
            click.secho(f"  {message['role']}:", fg="cyan")
            click.echo("\n".join(f"    {line}" for line in str(message["content"]).splitlines()))
    click.secho("  reply:", fg="cyan")
    click.echo("\n".join(f"    {line}" for line in item.reply.splitlines()) or "    (none)")
    usage = f"{item.usage.prompt_tokens} + {item.usage.completion_tokens} tokens"
    if item.problem:
        click.secho(f"  no verdict: {item.problem}", fg="yellow")
    else:
        known = ", an equal question was asked before" if item.is_remembered else ""
        click.echo(f"  verdict: {item.verdict} ({usage}{known})")
    click.echo()
